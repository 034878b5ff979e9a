"""Clips in and out: chosen frames of a video, mp4 files and PNG frames."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from ..cli.say import CliError
from .read import read_frames


@dataclass(frozen=True)
class Clip:
    """Chosen frames (F, H, W, 3) float32 in 0..1, the rate at which they play, and every how many-th was taken."""

    frames: Tensor
    fps: float
    step: int


def read_clip(path: Path, start: int, step: int, count: int, size: tuple[int, int], fit: str) -> Clip:
    """Frames of a video at ``size`` (width, height). Raises VideoError as `tav_core.video.read.read_frames` does."""
    frames, selection = read_frames(path, start, step, count, size, fit)
    return Clip(frames, float(selection.fps), step)


def write_clip(path: Path, frames: Tensor, fps: float) -> None:
    """Writes frames (F, H, W, 3) in 0..1 as mp4, or into the folder ``path`` as 00000.png and so on.

    What the name's suffix is decides. Raises CliError if it cannot be written.
    """
    pictures = (frames.numpy() * 255).round().astype(np.uint8)[..., ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".mp4":
        _write_mp4(path, pictures, fps)
        return
    path.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture))
        if not done:
            raise CliError(f"{path}: frame {number} cannot be written as PNG.")
        (path / f"{number:05}.png").write_bytes(encoded.tobytes())


def _write_mp4(path: Path, pictures: np.ndarray, fps: float) -> None:
    height, width = pictures.shape[1:3]
    # Written beside and moved, so that a video under its name is a whole one.
    part = path.with_suffix(".part.mp4")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    try:
        if not writer.isOpened():
            raise CliError(f"{path} cannot be written as mp4; use --format png.")
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture))
    finally:
        writer.release()
    part.replace(path)
