"""A small line chart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_SIZE = (960, 440)
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 300, 30, 60  # the legend is on the right
_COLOURS = [(31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14)]
_COLOURS += [(23, 190, 207), (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34)]
_INK, _GRID = (40, 40, 40), (225, 225, 225)


@dataclass(frozen=True)
class Line:
    """One curve; with dots the points stand alone."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


def draw(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    x_names: Sequence[str] | None = None,
    from_zero: bool = True,
) -> np.ndarray:
    """uint8 RGB picture (H, W, 3) of ``lines``; ``x_names`` stand at 0, 1, ... instead of numbers."""
    width, height = _SIZE
    picture = np.full((height, width, 3), 255, np.uint8)
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y]
    x_low, x_high = (-0.5, len(x_names) - 0.5) if x_names else (min(xs), max(xs))
    step = _step(max(ys) - (0.0 if from_zero else min(ys)))
    y_low = 0.0 if from_zero else math.floor(min(ys) / step) * step
    y_high = math.ceil(max(ys) / step) * step

    def place(x: float, y: float) -> tuple[int, int]:
        along = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return (
            round(_LEFT + along * (width - _LEFT - _RIGHT)),
            round(height - _BOTTOM - up * (height - _BOTTOM - _TOP)),
        )

    for i in range(round((y_high - y_low) / step) + 1):
        value = y_low + i * step
        _, row = place(x_low, value)
        cv2.line(picture, (_LEFT, row), (width - _RIGHT, row), _GRID, 1, cv2.LINE_AA)
        _text(picture, f"{value:.3g}", (_LEFT - 8, row + 4), right=True)
    ticks = enumerate(x_names) if x_names else [(x, f"{x:g}") for x in _ticks(sorted(set(xs)))]
    for x, name in ticks:
        column, row = place(x, y_low)
        _text(picture, name, (column, row + 18), centred=True)
    _text(picture, x_label, ((width - _RIGHT + _LEFT) // 2, height - 14), centred=True)
    _text(picture, y_label, (_LEFT, 16))
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        if not line.dots:
            for start, end in itertools.pairwise(points):
                cv2.line(picture, start, end, colour, 2, cv2.LINE_AA)
        for point in points if line.dots or len(points) < 12 else []:
            cv2.circle(picture, point, 4, colour, -1, cv2.LINE_AA)
        _text(picture, line.name, (width - _RIGHT + 16, _TOP + 8 + 18 * number), colour=colour)
    return picture


def _step(span: float) -> float:
    """A round number of which four to ten fit into ``span``."""
    power = 10.0 ** math.floor(math.log10(span or 1.0))
    return next(power * factor for factor in (0.1, 0.2, 0.5, 1.0) if span / (power * factor) <= 10)


def _ticks(values: list[float]) -> list[float]:
    return values if len(values) <= 8 else values[:: (len(values) + 7) // 8]


def _text(
    picture: np.ndarray,
    text: str,
    at: tuple[int, int],
    right: bool = False,
    centred: bool = False,
    colour: tuple[int, int, int] = _INK,
) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    left = at[0] - (width if right else width // 2 if centred else 0)
    cv2.putText(picture, text, (left, at[1]), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
