"""Writes and reads small video files (H.264) with the library that ComfyUI itself uses."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames: np.ndarray, fps: float = 8.0) -> Path:
    """Write frames as H.264 with yuv420p, which every browser plays.

    frames: uint8 RGB (count, height, width, 3), height and width even; fps in frames per second.
    """
    count, height, width, channels = frames.shape
    if frames.dtype != np.uint8 or channels != 3 or height % 2 or width % 2 or not count:
        raise ValueError(f"frames have to be uint8 RGB with an even size, not {frames.dtype} {frames.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "12"}
        for frame in frames:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> np.ndarray:
    """All frames of a video as uint8 RGB (count, height, width, 3)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def moving_square(count: int = 8, size: int = 64) -> np.ndarray:
    """A clip for tests: a bright square crosses a gradient; uint8 (count, size, size, 3)."""
    ramp = np.broadcast_to(np.linspace(30, 130, size, dtype=np.float32), (size, size))
    background = np.stack([ramp, ramp.T, ramp[:, ::-1]], axis=-1)
    frames = np.repeat(background[None], count, 0).astype(np.uint8)
    side = size // 4
    for index in range(count):
        left = round((size - side) * index / max(count - 1, 1))
        frames[index, size // 3 : size // 3 + side, left : left + side] = (240, 200, 40)
    return frames
