"""`dev.py demo`: edit a clip with a real ComfyUI server, through the workflow that users open."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tav_core.diffusion.settings import Inversion
from tav_core.settings import values_of
from tav_core.tuning.settings import TuningSettings
from tav_core.video.settings import FrameSelection

from . import edits
from .bars import StageBars
from .client import Client, Result
from .materials import given_checkpoint, put_clip, tiny_checkpoint
from .paths import COMFYUI_HOME, OUTPUT, WORKFLOWS
from .say import DevError, print_error, say
from .server import Server
from .workflow import find, find_one, set_inputs, to_api

_BASE = COMFYUI_HOME / "demo"
_WORKFLOW = WORKFLOWS / "quickstart.json"
# The workflow's own settings suit the tiny checkpoint; these, the paper's, a full one.
_FULL_CLIP = FrameSelection()
_FULL_TUNING = TuningSettings.official(steps=300)
_LABEL = 30  # characters of an edit shown beside its progress bar


def main(argv: Sequence[str]) -> int:
    """Run the workflow and leave its results in the output folder. Returns the exit code."""
    options = _parse(argv)
    started = time.time()
    checkpoint = given_checkpoint(options.checkpoint) if options.checkpoint else _tiny()
    video = put_clip(_BASE, options.video)
    server = Server(base=_BASE, checkpoints=[checkpoint])
    say("Starting ComfyUI.")
    with server:
        client = server.client()
        prompt = to_api(json.loads(_WORKFLOW.read_text(encoding="utf-8")), client.object_info())
        _apply(prompt, options, checkpoint.name, video)
        with StageBars(_stages(prompt)) as bars:
            result = client.run(prompt, bars)
        if not result.ok:
            print_error(f"The server's log is {server.log_path}.")
        result.check()
        files = _collect(client, prompt, result, options.output, Path(video).stem)
    if options.moving_picture:
        files.append(_moving_picture(prompt, options))
    say(f"Done in {time.time() - started:.0f} s. Look at:")
    for file in files:
        say(f"  {file}")
    return 0


def _tiny() -> Path:
    return tiny_checkpoint(COMFYUI_HOME / "made")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py demo",
        description="Edit a clip with a real ComfyUI server; by default as in workflows/quickstart.json.",
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="the clip to edit")
    parser.add_argument("--prompt", metavar="TEXT", help="what the clip shows")
    parser.add_argument(
        "--edit", action="append", metavar="TEXT", help="the edit prompt; repeat it for several videos"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="an SD 1.x checkpoint (.safetensors)")
    parser.add_argument("--steps", type=_positive, metavar="N", help="tuning steps (with --checkpoint: 300)")
    parser.add_argument(
        "--learning-rate", type=float, metavar="X", help="of the tuning (with --checkpoint: 3e-5)"
    )
    parser.add_argument("--frames", type=_positive, metavar="N", help="how many frames of the clip")
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="frame size in pixels (with --checkpoint: 512x512)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", default=OUTPUT, help="default: output")
    parser.add_argument(
        "--moving-picture", type=Path, metavar="FILE", help="also the clip and its edits side by side (.webp)"
    )
    options = parser.parse_args(argv)
    if options.checkpoint:
        options.size = options.size or (_FULL_CLIP.width, _FULL_CLIP.height)
        options.steps = options.steps or _FULL_TUNING.steps
        options.learning_rate = options.learning_rate or _FULL_TUNING.learning_rate
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or int(match[1]) % 8 or int(match[2]) % 8 or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 256x256, in multiples of 8")
    return int(match[1]), int(match[2])


def _apply(prompt: dict, options: argparse.Namespace, checkpoint: str, video: str) -> None:
    """Put the user's wishes into the graph."""
    load: dict = {"video": video}
    if options.frames:
        load["frame_count"] = options.frames
    if options.size:
        load["width"], load["height"] = options.size
    set_inputs(prompt, {"CheckpointLoaderSimple": {"ckpt_name": checkpoint}, "TAVLoadVideo": load})
    tuning = {"steps": options.steps, "learning_rate": options.learning_rate}
    tuning = {name: value for name, value in tuning.items() if value}
    if options.checkpoint:
        # How much is checkpointed is left to the memory that is free.
        tuning = values_of(_FULL_TUNING) | {"gradient_checkpointing": "automatic"} | tuning
        set_inputs(prompt, {"TAVDDIMInversion": {"strength": Inversion().strength}})
    set_inputs(prompt, {"TAVTune": tuning})
    if options.prompt:
        edits.set_prompt(prompt, options.prompt)
    if options.edit:
        edits.set_edits(prompt, options.edit)
    edits.caption(prompt)


def _stages(prompt: dict) -> dict[str, tuple[str, int | None]]:
    """The long stages: {node id: (label of its progress bar, steps)}."""
    labels = {find_one(prompt, "TAVTune"): "tune"}
    labels |= dict.fromkeys(find(prompt, "TAVDDIMInversion"), "invert")
    samples = find(prompt, "TAVSample")
    for node, text in zip(samples, edits.texts(prompt)[1], strict=True):
        labels[node] = f"sample: {text}" if len(text) <= _LABEL else f"sample: {text[:_LABEL]}..."
    steps = {node: prompt[node]["inputs"].get("steps") for node in labels}
    return {
        node: (label, steps[node] if isinstance(steps[node], int) else None) for node, label in labels.items()
    }


def _collect(client: Client, prompt: dict, result: Result, output: Path, stem: str) -> list[Path]:
    """Bring everything the run made into the folder `output` and return the files."""
    output.mkdir(parents=True, exist_ok=True)
    names = {}
    for sample, text in zip(find(prompt, "TAVSample"), edits.texts(prompt)[1], strict=True):
        for node in edits.branch(prompt, edits.edit_node(prompt, sample)):
            names[node] = f"{stem}-{edits.slug(text)}"
    for node in find(prompt, "SaveVideo"):
        names.setdefault(node, f"{stem}-comparison")
    for node in find(prompt, "SaveImage"):
        names.setdefault(node, f"{stem}-contact-sheet")
    files = []
    for node in result.outputs:
        if node in names:
            files += _download(client, result, node, output / names[node])
    weights = output / f"{stem}-tuned.safetensors"
    shutil.copyfile(_newest_weights(), weights)
    return [*files, weights]


def _moving_picture(prompt: dict, options: argparse.Namespace) -> Path:
    """The animated picture of what `_collect` left in the output folder."""
    from .moving_picture import moving_picture  # imports torch

    load = prompt[find_one(prompt, "TAVLoadVideo")]["inputs"]
    clip = _BASE / "input" / load["video"]
    source, texts = edits.texts(prompt)
    made = [(text, options.output / f"{clip.stem}-{edits.slug(text)}.mp4") for text in texts]
    return moving_picture(options.moving_picture, clip, load, made, source)


def _download(client: Client, result: Result, node: str, target: Path) -> list[Path]:
    found = [file for file in result.files(node) if file["type"] == "output"]
    names = [
        target if len(found) == 1 else target.with_name(f"{target.name}-{n}")
        for n in range(1, len(found) + 1)
    ]
    return [
        client.download(file, name.with_name(name.name + Path(file["filename"]).suffix))
        for file, name in zip(found, names, strict=True)
    ]


def _newest_weights() -> Path:
    """The tuned weights that the run saved."""
    folder = _BASE / "models" / "tune_a_video"
    found = sorted(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise DevError(f"The run saved no tuned weights in {folder}.")
    return found[-1]
