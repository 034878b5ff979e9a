"""Clips that the page plays on a node: sprite sheets in ComfyUI's temp folder.

They are for this pack's page alone. Other clients get the frames themselves from the node's IMAGE output.
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import folder_paths
import torch

from ....tav_core.video.sprites import sprite_sheet

# The entry in a node's ui. Its values are JSON text, so that ComfyUI does not count them as outputs of the run.
PLAYER = "tune_a_video"
_SIDE = 384


def player(clips: Sequence[tuple[str, torch.Tensor]], fps: float) -> dict[str, list[str]]:
    """A node's ui that plays ``clips``, (caption, frames (F, H, W, 3 or more) in 0..1), side by side at ``fps``."""
    return {PLAYER: [json.dumps({"caption": caption} | _saved(frames, fps)) for caption, frames in clips]}


def _saved(frames: torch.Tensor, fps: float) -> dict:
    sheet = sprite_sheet(frames, fps, _SIDE)
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"TuneAVideo_{uuid.uuid4().hex}.jpg"
    path.write_bytes(sheet.jpeg)
    return sheet.layout() | {"filename": path.name, "subfolder": "", "type": "temp"}
