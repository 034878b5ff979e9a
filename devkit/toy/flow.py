"""The true motion of every pixel between two scenes of a clip."""

from __future__ import annotations

import numpy as np

from .canvas import SIDE
from .scene import Scene, part_places


def true_flow(
    scene: Scene, other: Scene, parts: np.ndarray, other_parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow from a scene to another, and where it can be seen there.

    Every part is rigid, so a pixel moves with the part that covers it. The flow is float32
    (128, 128, 2) as (x, y) in pixels; the visibility bool (128, 128): the place it moves to is
    inside the picture and shows the same part.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    here = x + 0.5 + 1j * (y + 0.5)
    there = here.copy()
    before, after = part_places(scene), part_places(other)
    for part in np.unique(parts):
        covered = parts == part
        move = after[int(part)].after(before[int(part)].inverse())
        there[covered] = move(here[covered])
    moved = there - here
    column, row = np.floor(there.real).astype(int), np.floor(there.imag).astype(int)
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    found = other_parts[row.clip(0, SIDE - 1), column.clip(0, SIDE - 1)]
    return np.stack([moved.real, moved.imag], axis=2).astype(np.float32), inside & (found == parts)
