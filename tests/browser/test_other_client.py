"""A client that others wrote, comfy-api-simplified of PyPI, queues the quickstart and gets its picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devkit import venv
from devkit.lock import locked
from devkit.paths import COMFYUI_HOME, WORKFLOWS
from devkit.pins import OTHER_CLIENT
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
def packages() -> Path:
    """A folder with the client and what it needs, apart from everything else."""
    if os.environ.get("DEV_PYTHON"):
        pytest.skip("The environment in DEV_PYTHON is used as it is.")
    folder = COMFYUI_HOME / "other-client" / f"{OTHER_CLIENT.rpartition('=')[2]}-{sys.version_info[1]}"
    with locked(COMFYUI_HOME / "set-up.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                venv.pip(["install", f"--target={folder}", OTHER_CLIENT], log=COMFYUI_HOME / "browser.log")
            except DevError as error:
                pytest.skip(f"{OTHER_CLIENT} cannot be installed here: {error}")
            (folder / "complete").touch()
    return folder


def test_another_client_runs_the_quickstart(studio: Server, packages: Path, tmp_path: Path) -> None:
    workflow = json.loads((WORKFLOWS / "quickstart.json").read_text(encoding="utf-8"))
    prompt = tmp_path / "quickstart-api.json"
    prompt.write_text(json.dumps(to_api(workflow, studio.client().object_info())), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, studio.url, str(prompt)],
        env={**os.environ, "PYTHONPATH": str(packages)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert sizes and all(size > 100 for size in sizes)
