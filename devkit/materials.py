"""The checkpoint and the clip that the commands work with when the user gives none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .base import link
from .paths import TINY_CHECKPOINT
from .say import DevError, say

if TYPE_CHECKING:
    import numpy as np

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
    from .world.clips import demo_plan, render_clip

    target = folder / "sample.mp4"
    _write_enlarged(target, render_clip(demo_plan()).frames)
    return target.name


def put_examples(base: Path) -> list[str]:
    """Put everything that the example workflows ask for into the folder `base`; returns the clips' names.

    The clips: the sample, its subject in white on black, a second and a long one. The small checkpoint's
    companions: LoRA, ControlNet, and the personalised checkpoint and that of Stable Diffusion 2.x's kind, each made
    of the small checkpoint and the changes that lie beside it. Companions that are not in the checkout are left
    out, as the checkpoint itself may be.
    """
    import numpy as np

    from .world.clips import demo_plan, long_plan, render_clip, second_plan

    sample = base / "input" / put_clip(base)
    clip = render_clip(demo_plan())
    white = np.repeat(clip.masks.any(axis=1)[..., None], 3, axis=3).astype(np.uint8) * 255
    clips = {
        "sample-mask.mp4": white,
        "sample-2.mp4": render_clip(second_plan()).frames,
        "sample-long.mp4": render_clip(long_plan()).frames,
    }
    for name, frames in clips.items():
        _write_enlarged(sample.parent / name, frames)
    _put_companions(base / "models")
    return [sample.name, *clips]


def _put_companions(models: Path) -> None:
    for kind, folder in (("lora", "loras"), ("controlnet", "controlnet")):
        file = TINY_CHECKPOINT.with_name(f"{TINY_CHECKPOINT.stem}-{kind}.safetensors")
        if file.is_file():
            (models / folder).mkdir(parents=True, exist_ok=True)
            link(file, models / folder / file.name)
    for kind in ("dreambooth", "2"):
        changes = TINY_CHECKPOINT.with_name(f"{TINY_CHECKPOINT.stem}-{kind}.safetensors")
        whole = models / "checkpoints" / changes.name
        there = changes.is_file() and TINY_CHECKPOINT.is_file()
        if not there or _is_newer(whole, TINY_CHECKPOINT, changes):
            continue
        from .world.variants import assemble  # imports torch

        whole.parent.mkdir(parents=True, exist_ok=True)
        assemble(TINY_CHECKPOINT, changes, whole)


def _is_newer(made: Path, *sources: Path) -> bool:
    return made.is_file() and all(made.stat().st_mtime > source.stat().st_mtime for source in sources)


def _write_enlarged(target: Path, frames: np.ndarray) -> None:
    """Write a clip enlarged, so that it also suits a full checkpoint."""
    import cv2
    import numpy as np

    from .video import write_video

    size = (frames.shape[2] * _SAMPLE_SCALE, frames.shape[1] * _SAMPLE_SCALE)
    large = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])
    write_video(target, large, _SAMPLE_FPS)
