"""The clip and its edits side by side as an animated WebP, which pages show without a player."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

from tav_core.video.grid import compare_frames
from tav_core.video.read import read_frames

from .say import DevError
from .video import read_video

LARGEST = 1_000_000
"""Bytes that the file may have."""

_WIDTH = 320
"""Pixels that each video is enlarged or reduced to."""

_QUALITIES = (90, 80, 70, 60, 45)


def moving_picture(
    target: Path, clip: Path, load: dict, edits: Sequence[tuple[str, Path]], source: str
) -> Path:
    """Write `target` (.webp), at most `LARGEST` bytes.

    clip, load: the file and the inputs of the TAVLoadVideo node that read it; edits: (sentence, edited video);
    source: the sentence for the clip. Raises DevError if the picture cannot be made small enough.
    """
    frames, _ = read_frames(
        clip,
        load["start_frame"],
        load["frame_stride"],
        load["frame_count"],
        (load["width"], load["height"]),
        load["fit"],
    )
    videos = [(source, _enlarged((frames.numpy() * 255).round().astype(np.uint8)))]
    videos += [(sentence, _enlarged(read_video(path))) for sentence, path in edits]
    pictures = [
        Image.fromarray(picture) for picture in (compare_frames(videos).numpy() * 255).astype(np.uint8)
    ]
    content = _encoded(pictures, _rate(edits[0][1]))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def _enlarged(frames: np.ndarray) -> torch.Tensor:
    """uint8 (F, H, W, 3) as float32 in 0..1 at the width of the picture."""
    height = round(frames.shape[1] * _WIDTH / frames.shape[2])
    method = cv2.INTER_CUBIC if frames.shape[2] < _WIDTH else cv2.INTER_AREA
    large = [cv2.resize(frame, (_WIDTH, height), interpolation=method) for frame in frames]
    return torch.from_numpy(np.stack(large)).float() / 255


def _rate(video: Path) -> float:
    with av.open(str(video)) as container:
        return float(container.streams.video[0].average_rate or 8)


def _encoded(pictures: list[Image.Image], fps: float) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        pictures[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            quality=quality,
            method=4,
        )
        if buffer.tell() <= LARGEST:
            return buffer.getvalue()
    raise DevError(f"{len(pictures)} frames do not fit into {LARGEST} bytes: give --frames a smaller number.")
