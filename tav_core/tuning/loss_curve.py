"""A small picture of a loss curve."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

_RAW, _SMOOTH, _TEXT, _PAPER = (178, 196, 214), (24, 90, 157), (60, 60, 60), (255, 255, 255)


def smooth(losses: Sequence[float], window: int) -> np.ndarray:
    """Trailing mean over up to ``window`` values, one per loss."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def loss_curve(
    losses: Sequence[float], steps: int, caption: str, size: tuple[int, int] = (512, 288)
) -> Image.Image:
    """Draws raw and smoothed loss over ``steps`` with a caption line; ``losses`` are those so far, at least one."""
    width, height = size
    top, margin = 28, 12
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0

    def points(values: Iterable[float]) -> list[tuple[float, float]]:
        return [
            (
                margin + (width - 2 * margin) * i / max(1, steps - 1),
                height - margin - (height - margin - top) * (value - low) / span,
            )
            for i, value in enumerate(values)
        ]

    if len(losses) > 1:
        draw.line(points(losses), fill=_RAW, width=1)
        draw.line(points(smooth(losses, max(1, steps // 10))), fill=_SMOOTH, width=3)
    draw.text((margin, 8), caption, fill=_TEXT, font_size=14)
    return image
