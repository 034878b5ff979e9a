"""The clip that an edit starts from: chosen frames of a video, and its sound."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .read import read_frames
from .settings import FrameSelection
from .sound import Sound, read_sound

_DEFAULT = FrameSelection()


@dataclass(frozen=True)
class Clip:
    """Frames (F, H, W, 3) float32 in 0..1, their rate per second, the stride they were taken at, and their sound."""

    frames: Tensor
    fps: float
    frame_stride: int = 1
    sound: Sound | None = None


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
    pictures, selection = read_frames(path, start, frame_stride, frames, size, fit)
    sound = read_sound(path, selection.seconds[0], selection.duration)
    return Clip(pictures, float(selection.fps), frame_stride, sound)
