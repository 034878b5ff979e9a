"""A clip as one picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tav_core.video.sprites import shrunk, sprite_sheet


def grey(levels: list[int], height: int = 16, width: int = 24) -> torch.Tensor:
    return (torch.tensor(levels, dtype=torch.float32) / 255)[:, None, None, None].expand(-1, height, width, 3)


def cells(sheet) -> list[float]:
    """The mean level of each frame on the sheet."""
    picture = np.asarray(Image.open(io.BytesIO(sheet.jpeg)).convert("L"), dtype=float)
    found = []
    for number in range(sheet.frames):
        top, left = number // sheet.columns * sheet.height, number % sheet.columns * sheet.width
        found.append(picture[top : top + sheet.height, left : left + sheet.width].mean())
    return found


def test_frames_lie_in_order() -> None:
    levels = [20, 80, 140, 200, 250]
    sheet = sprite_sheet(grey(levels), fps=8.0)
    assert (sheet.frames, sheet.columns, sheet.width, sheet.height) == (5, 3, 24, 16)
    assert cells(sheet) == pytest.approx(levels, abs=4)
    assert (sheet.fps, sheet.step) == (8.0, 1)
    assert "jpeg" not in sheet.layout() and sheet.layout()["frames"] == 5


def test_long_clips_are_thinned_and_keep_their_pace() -> None:
    sheet = sprite_sheet(grey(list(range(0, 250, 10))), fps=24.0, most=10)
    assert (sheet.frames, sheet.step, sheet.fps) == (9, 3, 8.0)
    assert cells(sheet) == pytest.approx(list(range(0, 250, 30)), abs=4)


def test_large_frames_are_shrunk_with_their_aspect() -> None:
    sheet = sprite_sheet(grey([10, 20], height=300, width=600), fps=8.0, side=100)
    assert (sheet.width, sheet.height) == (100, 50)
    assert shrunk((30, 20), 100) == (30, 20)
    assert shrunk((4000, 1), 100) == (100, 1)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="frames must be"):
        sprite_sheet(torch.zeros(0, 8, 8, 3), fps=8.0)
