"""The checkpoint and the clip that the commands work with when the user gives none."""

from __future__ import annotations

import shutil
from pathlib import Path

from .paths import TINY_CHECKPOINT
from .say import DevError, say

RANDOM_SEED = 0
_SAMPLE_SCALE = 4
_SAMPLE_FPS = 8.0


def tiny_checkpoint(folder: Path) -> Path:
    """The tiny checkpoint that lies in the checkout; without one, a seeded random one made in `folder`."""
    if TINY_CHECKPOINT.is_file():
        return TINY_CHECKPOINT
    from .world.checkpoint import make_random  # imports torch

    path = folder / TINY_CHECKPOINT.name
    folder.mkdir(parents=True, exist_ok=True)
    say("Making a small random checkpoint (no trained one is in the checkout).")
    make_random(path, seed=RANDOM_SEED)
    return path


def given_checkpoint(path: Path) -> Path:
    """A checkpoint that the user named. Raises DevError when there is no such file."""
    path = path.expanduser().absolute()
    if not path.is_file():
        raise DevError(f"There is no checkpoint {path}: correct --checkpoint.")
    return path


def put_clip(base: Path, video: Path | None = None) -> str:
    """Put a clip into the input folder of `base` and return its name there.

    video: the user's own; without one, a sample is rendered. Raises DevError when there is no such file.
    """
    folder = base / "input"
    folder.mkdir(parents=True, exist_ok=True)
    if video is not None:
        video = video.expanduser().absolute()
        if not video.is_file():
            raise DevError(f"There is no video {video}: correct --video.")
        shutil.copyfile(video, folder / video.name)
        return video.name
    target = folder / "sample.mp4"
    _render_sample(target)
    return target.name


def _render_sample(target: Path) -> None:
    """Render the demo's clip, enlarged, so that it also suits a full checkpoint."""
    import cv2
    import numpy as np

    from .video import write_video
    from .world.clips import demo_plan, render_clip

    frames = render_clip(demo_plan()).frames
    size = (frames.shape[2] * _SAMPLE_SCALE, frames.shape[1] * _SAMPLE_SCALE)
    large = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])
    write_video(target, large, _SAMPLE_FPS)
