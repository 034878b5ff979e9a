"""The one skeleton of all figures: bone lengths, joints, and the parts that hang on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Similarity

JOINTS = (
    "head", "neck", "hip",
    "right elbow", "right hand", "left elbow", "left hand",
    "right knee", "right foot", "left knee", "left foot",
)  # fmt: skip
"""Names of the joints; "right" is the side of the picture towards which the figure faces."""

BONES = ((0, 1), (1, 2), (1, 3), (3, 4), (1, 5), (5, 6), (2, 7), (7, 8), (2, 9), (9, 10))
"""Pairs of joints, by their places in `JOINTS`, between which a line shows the skeleton."""

PARTS = (
    "left upper arm", "left fore arm", "left thigh", "left shin", "right thigh", "right shin",
    "torso", "head", "right upper arm", "right fore arm",
)  # fmt: skip
"""Rigid parts, in the order in which they are drawn: later ones hide earlier ones."""

HEAD, TORSO, UPPER, FORE, THIGH, SHIN = 15.0, 27.0, 15.0, 14.0, 17.0, 16.0
"""Lengths in pixels at size 1: neck to head's middle, hip to neck, and the limbs' halves."""

SHOULDERS, HIPS, SOLE = 8.5, 5.5, 5.0
"""Half widths, and how far the sole lies below the ankle."""


@dataclass(frozen=True)
class Pose:
    """Angles in degrees: 0 hangs straight down, 90 points to the side the figure faces.

    `arms` and `legs` hold (upper, lower) angles for right and left. `lean` tilts the torso and
    `tilt` the head, both from upright. `rise` lifts the lowest foot off the ground, in pixels;
    `front` is 1 for a figure seen from the front and smaller if it is turned to the side.
    """

    arms: tuple[tuple[float, float], tuple[float, float]]
    legs: tuple[tuple[float, float], tuple[float, float]]
    lean: float = 0.0
    tilt: float = 0.0
    rise: float = 0.0
    sway: float = 0.0
    front: float = 1.0


@dataclass(frozen=True)
class Rig:
    """A posed skeleton standing on the origin, facing right, at size 1.

    `joints` is complex (11,) in the order of `JOINTS`; `frames` maps each part's own coordinates
    to the skeleton's. A limb's start at its upper joint and run along it; the torso's start at
    the hip and the head's at its middle, with y down.
    """

    joints: np.ndarray
    frames: dict[str, Similarity]


def rig(pose: Pose) -> Rig:
    """Return the skeleton in a pose, its lowest foot `pose.rise` above the origin."""
    up = -1j * np.exp(1j * np.radians(pose.lean))
    across = np.exp(1j * np.radians(pose.lean))
    hip = complex(pose.sway, 0)
    neck = hip + TORSO * up
    head = neck + HEAD * -1j * np.exp(1j * np.radians(pose.tilt))
    shoulders = [neck + 4.5 * -up + side * SHOULDERS * pose.front * across for side in (1, -1)]
    hips = [hip + side * HIPS * pose.front for side in (1, -1)]
    points, frames = {}, {}
    for index, side in enumerate(("right", "left")):
        chains = (
            (shoulders[index], pose.arms[index], (UPPER, FORE), ("upper arm", "fore arm")),
            (hips[index], pose.legs[index], (THIGH, SHIN), ("thigh", "shin")),
        )
        for start, angles, lengths, names in chains:
            for angle, length, name in zip(angles, lengths, names, strict=True):
                way = 1j * np.exp(-1j * np.radians(angle))
                frames[f"{side} {name}"] = Similarity(way, start)
                start = start + length * way
                points[f"{side} {name}"] = start
    frames["torso"] = Similarity(across, hip)
    frames["head"] = Similarity(np.exp(1j * np.radians(pose.tilt)), head)
    ends = [points[f"{side} {name}"] for side in ("right", "left") for name in ("upper arm", "fore arm")]
    ends += [points[f"{side} {name}"] for side in ("right", "left") for name in ("thigh", "shin")]
    joints = np.array([head, neck, hip, *ends])
    lowest = max(joints[8].imag, joints[10].imag) + SOLE
    shift = -1j * (lowest + pose.rise)
    moved = {name: Similarity(1, shift).after(frame) for name, frame in frames.items()}
    return Rig(joints + shift, moved)
