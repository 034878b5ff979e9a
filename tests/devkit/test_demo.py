"""The demo, from the workflow that users open to the files it leaves behind."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from safetensors import safe_open

from devkit import demo, edits
from devkit.client import Client
from devkit.paths import WORKFLOWS
from devkit.say import DevError
from devkit.video import read_video
from devkit.workflow import find, find_one, to_api


def test_the_quickstart_graph_has_the_shape_that_the_demo_asks_for(client: Client):
    saved = json.loads((WORKFLOWS / "quickstart.json").read_text(encoding="utf-8"))
    prompt = to_api(saved, client.object_info())
    find_one(prompt, "TAVTune")
    find_one(prompt, "CheckpointLoaderSimple")
    find_one(prompt, "TAVLoadVideo")
    edits.set_edits(prompt, ["one", "two"])
    source, found = edits.texts(prompt)
    assert source and found == ["one", "two"]
    for compare in find(prompt, "TAVCompareVideos"):
        assert prompt[compare]["inputs"]["captions"].splitlines() == [source, "one", "two"]


def test_demo_leaves_videos_a_sheet_and_weights(tmp_path, monkeypatch, clip_file, tiny_checkpoint, capfd):
    monkeypatch.setattr(demo, "_BASE", tmp_path / "base")
    output = tmp_path / "out"
    arguments = ["--video", clip_file, "--prompt", "a square", "--edit", "a cat", "--edit", "a dog"]
    arguments += ["--checkpoint", tiny_checkpoint, "--steps", "2", "--frames", "3", "--size", "64x48"]
    assert demo.main([str(argument) for argument in [*arguments, "--output", output]]) == 0
    for name in ("square-a-cat.mp4", "square-a-dog.mp4"):
        assert read_video(output / name).shape == (3, 48, 64, 3)
    with Image.open(output / "square-contact-sheet.png") as sheet:
        assert sheet.width >= 3 * 64 and sheet.height >= 3 * 48
    with safe_open(output / "square-tuned.safetensors", "pt") as weights:
        assert weights.metadata()["prompt"] == "a square"
    said = capfd.readouterr().out
    for stage in ("tune", "invert", "sample: a cat", "sample: a dog", "Done in"):
        assert stage in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "nowhere.mp4"], "There is no video .*nowhere.mp4: correct --video"),
        (["--checkpoint", "nowhere.safetensors"], "There is no checkpoint .*: correct --checkpoint"),
    ],
)
def test_missing_files_are_named_before_anything_starts(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_BASE", tmp_path / "base")
    with pytest.raises(DevError, match=message):
        demo.main(arguments)


@pytest.mark.parametrize("size", ["64", "64x", "63x64", "0x64", "axb"])
def test_a_wrong_size_is_refused(size, capsys):
    with pytest.raises(SystemExit):
        demo.main(["--size", size])
    assert "multiples of 8" in capsys.readouterr().err
