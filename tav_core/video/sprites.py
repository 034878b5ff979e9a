"""Sprite sheets: the frames of a clip in rows on one picture, which a page plays without decoding a video."""

import io
import math
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from PIL import Image

_QUALITY = 82


@dataclass(frozen=True)
class SpriteSheet:
    """The picture and how to cut it.

    jpeg: the encoded picture; frames lie row by row, ``columns`` in a row. width, height: of one frame in pixels.
    fps: the rate at which the kept frames play at the clip's pace. step: frame stride, every step-th frame was kept.
    """

    jpeg: bytes
    frames: int
    columns: int
    width: int
    height: int
    fps: float
    step: int

    def layout(self) -> dict:
        """Everything but the picture, as JSON can hold it."""
        return {name: value for name, value in asdict(self).items() if name != "jpeg"}


def shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with the same aspect and no side longer than ``side``; never enlarged, at least 1."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def sprite_sheet(frames: torch.Tensor, fps: float, side: int = 320, most: int = 64) -> SpriteSheet:
    """Lays out ``frames`` (F, H, W, 3 or more) in 0..1, shrunk to ``side`` pixels.

    Of a clip with more than ``most`` frames, every n-th is kept. Raises ValueError if there are no frames.
    """
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(f"frames must be (frames, height, width, channels), not {tuple(frames.shape)}")
    step = math.ceil(len(frames) / most)
    width, height = shrunk((frames.shape[2], frames.shape[1]), side)
    cells = [_cell(frame, width, height) for frame in frames[::step, ..., :3]]
    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = cell
    encoded = io.BytesIO()
    Image.fromarray(sheet).save(encoded, "JPEG", quality=_QUALITY)
    return SpriteSheet(encoded.getvalue(), len(cells), columns, width, height, fps / step, step)


def _cell(frame: torch.Tensor, width: int, height: int) -> np.ndarray:
    pixels = (frame.float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    if pixels.shape[:2] == (height, width):
        return pixels
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)
