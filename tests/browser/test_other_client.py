"""A client that others wrote, comfy-api-simplified of PyPI, queues the quickstart and gets its picture."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from devkit import venv
from devkit.paths import WORKFLOWS
from devkit.say import DevError
from devkit.server import Server
from devkit.workflow import to_api

SECONDS = 600
PROGRAM = """
import json, sys
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

prompt = ComfyWorkflowWrapper(json.load(open(sys.argv[2])))
prompt.set_node_param("Tune on One Video", "steps", 3)
prompt.set_node_param("Load Video Frames", "frame_count", 4)
pictures = ComfyApiWrapper(sys.argv[1]).queue_and_wait_images(prompt, "Save Image")
print(json.dumps([len(picture) for picture in pictures.values()]))
"""


@pytest.fixture(scope="module")
def other_client() -> None:
    """The client's package, in this process's environment."""
    if importlib.util.find_spec("comfy_api_simplified") is None:
        try:
            venv.add("other-client")
        except DevError as error:
            pytest.skip(f"comfy-api-simplified cannot be installed here: {error}")


@pytest.mark.usefixtures("other_client")
def test_another_client_runs_the_quickstart(studio: Server, tmp_path: Path) -> None:
    workflow = json.loads((WORKFLOWS / "quickstart.json").read_text(encoding="utf-8"))
    prompt = tmp_path / "quickstart-api.json"
    prompt.write_text(json.dumps(to_api(workflow, studio.client().object_info())), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, studio.url, str(prompt)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert sizes and all(size > 100 for size in sizes)
