"""`dev.py thumbnails`: the template browser's pictures, made by running each example workflow on a real server."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .client import Client, Result
from .gallery.workflows import BEFORE, build_all
from .materials import put_examples, tiny_checkpoint
from .paths import COMFYUI_HOME, WORKFLOWS
from .say import DevError, say
from .server import Server
from .video import read_video
from .workflow import find, to_api

_BASE = COMFYUI_HOME / "gallery"
_SIZE = (512, 384)
_PAPER, _INK = (240, 240, 240), (30, 30, 30)
_COLUMNS = {1: 4, 2: 4, 3: 4}
"""Frames in each row of a contact sheet, by the number of rows: few rows leave room for larger pictures."""

_MOST_COLUMNS, _LETTERS, _LINE = 6, 15, 20


def main(argv: Sequence[str]) -> int:
    """Run the workflows at their own settings and write workflows/<name>.jpg. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py thumbnails", description=__doc__)
    parser.add_argument("names", nargs="*", help="workflows, without .json (default: all)")
    options = parser.parse_args(argv)
    names = in_order(options.names)
    put_examples(_BASE)
    server = Server(base=_BASE, checkpoints=[tiny_checkpoint(COMFYUI_HOME / "made")])
    say("Starting ComfyUI.")
    with server:
        client = server.client()
        for name in names:
            result = _run(client, name)
            target = WORKFLOWS / f"{name}.jpg"
            thumbnail(client, result).save(target, quality=88, optimize=True)
            say(f"{target} ({result.seconds:.0f} s)")
    return 0


def in_order(names: Sequence[str]) -> list[str]:
    """The named workflows (all, without names), after those whose files they load.

    Raises DevError for a name that is none of a workflow.
    """
    there = {path.stem for path in WORKFLOWS.glob("*.json")}
    unknown = sorted(set(names) - there)
    if unknown:
        raise DevError(f"There is no workflow {unknown[0]!r}; there are {', '.join(sorted(there))}.")
    wanted = set(names) or there
    for name in list(wanted):
        while name := BEFORE.get(name, ""):
            wanted.add(name)
    built = [name for name in build_all() if name in wanted]
    return built + sorted(wanted - set(built))


def _run(client: Client, name: str) -> Result:
    saved = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    prompt = to_api(saved, client.object_info())
    for node in find(prompt, "TAVCompareVideos"):
        inputs = prompt[node]["inputs"]
        rows = 1 + sum(key.startswith("edited.") for key in inputs)
        inputs["columns"] = _COLUMNS.get(rows, _MOST_COLUMNS)
    return client.run(prompt).check()


def thumbnail(client: Client, result: Result) -> Image.Image:
    """A card with what a run saved: the last picture (else frames of the last video), and the texts it showed."""
    shown = [text for output in result.outputs.values() for text in output.get("text", [])]
    texts = [line for text in shown for line in text.splitlines()]
    picture = _picture(client, result)
    card = Image.new("RGB", _SIZE, _PAPER)
    text_height = _LINE * len(texts)
    free = _SIZE[1] - (text_height + _LINE if texts else 0)
    bottom = (_SIZE[1] - text_height) // 2
    if picture is not None:
        picture.thumbnail((_SIZE[0], free), Image.Resampling.LANCZOS)
        top = (free - picture.height) // 2
        card.paste(picture, ((_SIZE[0] - picture.width) // 2, top))
        bottom = top + picture.height + _LINE // 2
    draw = ImageDraw.Draw(card)
    font = ImageFont.load_default(_LETTERS)
    for number, line in enumerate(texts):
        draw.text((12, bottom + number * _LINE), line, fill=_INK, font=font)
    return card


def _picture(client: Client, result: Result) -> Image.Image | None:
    files = [file for file in result.files() if file["type"] == "output"]
    pictures = [file for file in files if file["filename"].endswith(".png")]
    if pictures:
        return Image.open(io.BytesIO(client.view(pictures[-1]))).convert("RGB")
    videos = [file for file in files if file["filename"].endswith(".mp4")]
    if not videos:
        return None
    with tempfile.TemporaryDirectory() as folder:
        frames = read_video(client.download(videos[-1], Path(folder)))
    return Image.fromarray(frames[len(frames) // 2])
