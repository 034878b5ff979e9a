"""The verbs: each is a cycle of poses, told by its phase."""

from __future__ import annotations

import math
from collections.abc import Callable

from .skeleton import Pose

STRIDE = 64.0
"""Pixels that a figure of size 1 walks in one cycle."""


def pose(verb: str, phase: float) -> Pose:
    """Return the pose of a verb at a phase; phases 0 and 1 are the same.

    Raises ValueError for an unknown verb.
    """
    if verb not in _CYCLES:
        raise ValueError(f"unknown verb {verb!r}; known: {', '.join(_CYCLES)}")
    return _CYCLES[verb](phase % 1.0)


def _wave(phase: float, shift: float = 0.0) -> float:
    return math.sin(2 * math.pi * (phase + shift))


def _walking(phase: float) -> Pose:
    swing = _wave(phase)
    legs = []
    for sign, shift in ((1, 0.0), (-1, 0.5)):
        lift = max(0.0, _wave(phase, shift + 0.27))
        thigh = 36 * sign * swing + 16 * lift
        legs.append((thigh, thigh - 8 - 58 * lift))
    arms = tuple((-46 * sign * swing, -46 * sign * swing + 34) for sign in (1, -1))
    return Pose(arms, tuple(legs), lean=4, front=0.35)


def _jumping(phase: float) -> Pose:
    # The first 40 % are spent crouching; both halves begin and end half way between.
    if phase < 0.4:
        deep = 0.25 + 0.75 * math.sin(math.pi * phase / 0.4)
        arms = tuple((side * (35 + 10 * deep), side * (20 + 45 * deep)) for side in (1, -1))
        legs = tuple((side * (18 + 52 * deep), side * (4 - 34 * deep)) for side in (1, -1))
        return Pose(arms, legs)
    high = math.sin(math.pi * (phase - 0.4) / 0.6)
    arms = tuple((side * (40 + 112 * high), side * (30 + 142 * high)) for side in (1, -1))
    legs = tuple((side * (22 + 20 * high), side * (-4 - 16 * high)) for side in (1, -1))
    return Pose(arms, legs, rise=17 * high)


def _waving(phase: float) -> Pose:
    swing = _wave(phase)
    arms = ((112 + 6 * swing, 142 + 46 * swing), (-14, -6))
    return Pose(arms, ((9, 4), (-9, -4)), lean=-2 + 2 * swing, tilt=6 + 4 * swing)


def _dancing(phase: float) -> Pose:
    swing = _wave(phase)
    arms = ((98 + 38 * swing, 104 + 74 * swing), (-98 + 38 * swing, -104 + 74 * swing))
    right, left = max(0.0, swing), max(0.0, -swing)
    legs = ((12 + 46 * right, 8 - 26 * right), (-12 - 46 * left, -8 + 26 * left))
    return Pose(arms, legs, lean=-11 * swing, tilt=9 * swing, sway=-3 * swing)


def _bowing(phase: float) -> Pose:
    deep = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
    lean = 22 + 62 * deep
    arms = ((18 + 34 * deep, 52 + 38 * deep), (-48 - 34 * deep, -64 - 34 * deep))
    return Pose(arms, ((6, 2), (-8, -8)), lean=lean, tilt=lean + 12, sway=-5 - 7 * deep, front=0.4)


def _star_jumps(phase: float) -> Pose:
    wide = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
    hop = abs(math.sin(2 * math.pi * phase))
    arms = tuple((side * (34 + 96 * wide), side * (34 + 96 * wide)) for side in (1, -1))
    legs = tuple((side * (4 + 33 * wide), side * (4 + 33 * wide)) for side in (1, -1))
    return Pose(arms, legs, rise=8 * hop)


_CYCLES: dict[str, Callable[[float], Pose]] = {
    "walking": _walking,
    "jumping": _jumping,
    "waving": _waving,
    "dancing": _dancing,
    "bowing": _bowing,
    "doing star jumps": _star_jumps,
}

VERBS = tuple(_CYCLES)
"""Verbs, in the order of the classifier's outputs."""
