"""Clips in and out: chosen frames of a video, mp4 files and PNG frames."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from .read import read_frames
from .settings import FrameSelection
from .source import VideoError

_DEFAULT = FrameSelection()


@dataclass(frozen=True)
class Clip:
    """Frames (F, H, W, 3) float32 in 0..1, their rate per second, and the stride at which they were taken."""

    frames: Tensor
    fps: float
    frame_stride: int = 1


def read_clip(
    path: Path | str,
    frames: int = _DEFAULT.frame_count,
    size: tuple[int, int] = (_DEFAULT.width, _DEFAULT.height),
    start: int = _DEFAULT.start_frame,
    frame_stride: int = _DEFAULT.frame_stride,
    fit: str = _DEFAULT.fit,
) -> Clip:
    """``frames`` frames of a video from ``start`` on, every ``frame_stride``-th, at ``size`` (width, height).

    The size must be multiples of 8. ``fit`` is one of `tav_core.video.fit.FITS`. Raises VideoError if the video cannot
    be read or has fewer frames.
    """
    pictures, selection = read_frames(Path(path), start, frame_stride, frames, size, fit)
    return Clip(pictures, float(selection.fps), frame_stride)


def save_video(path: Path | str, frames: Tensor, fps: float) -> None:
    """Writes frames (F, H, W, 3) in 0..1 as mp4, or into the folder ``path`` as 00000.png and so on.

    A name that ends with .mp4 is a video. Raises VideoError or OSError if it cannot be written.
    """
    path = Path(path)
    pictures = (frames.numpy() * 255).round().astype(np.uint8)[..., ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".mp4":
        _write_mp4(path, pictures, fps)
        return
    path.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture))
        if not done:
            raise VideoError(f"{path}: frame {number} cannot be written as PNG.")
        (path / f"{number:05}.png").write_bytes(encoded.tobytes())


def _write_mp4(path: Path, pictures: np.ndarray, fps: float) -> None:
    height, width = pictures.shape[1:3]
    # Written beside and moved, so that a video under its name is a whole one.
    part = path.with_suffix(".part.mp4")
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    try:
        if not writer.isOpened():
            raise VideoError(
                f"{path} cannot be written as mp4; use PNG frames: --format png, or a name without .mp4."
            )
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture))
    finally:
        writer.release()
    part.replace(path)
