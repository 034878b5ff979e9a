"""Render clips: sprites that move over a fixed background."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from .backgrounds import SIDE
from .compose import Scene, Sprite, compose
from .vocabulary import caption

TRAJECTORIES = ("straight", "curved", "accelerating", "growing", "still")
"""Ways in which one sprite can move."""


@dataclass(frozen=True)
class Actor:
    """A sprite that moves from `start` to `end` (x, y), in pixels, along a trajectory.

    `size` is its square's side in pixels, at the end `end_size` where that is given.
    "growing" without an end size grows by 40 %.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    size: float = 56
    trajectory: str = "straight"
    end_size: float | None = None

    def at(self, time: float) -> Sprite:
        """Return the sprite at a time in 0..1. Raises ValueError for an unknown trajectory."""
        if self.trajectory not in _PATHS:
            raise ValueError(f"unknown trajectory {self.trajectory!r}; known: {', '.join(TRAJECTORIES)}")
        along, aside = _PATHS[self.trajectory](time)
        start, end = np.array(self.start), np.array(self.end)
        way = end - start
        normal = np.array([way[1], -way[0]])
        x, y = start + along * way + aside * normal
        default = 1.4 * self.size if self.trajectory == "growing" else self.size
        last = self.end_size or default
        return Sprite(self.name, (float(x), float(y)), self.size + along * (last - self.size))


@dataclass(frozen=True)
class ClipPlan:
    """Everything that decides a clip. Later actors hide earlier ones."""

    actors: tuple[Actor, ...]
    background: str
    style: str = "plain"
    frames: int = 16
    seed: int = 0

    @property
    def caption(self) -> str:
        """The caption of every frame."""
        return caption([actor.name for actor in self.actors], self.background, self.style)

    def scene(self, frame: int) -> Scene:
        """Return the scene of a frame; its background is the same in all."""
        time = frame / max(1, self.frames - 1)
        sprites = tuple(actor.at(time) for actor in self.actors)
        return Scene(sprites, self.background, self.style, self.seed)


@dataclass(frozen=True)
class Clip:
    """A rendered clip and its ground truth.

    `frames` is uint8 RGB (F, 128, 128, 3), `centres` float32 (F, actors, 2) as (x, y) in
    pixels, `masks` bool (F, actors, 128, 128) of the visible parts.
    """

    plan: ClipPlan
    frames: np.ndarray
    centres: np.ndarray
    masks: np.ndarray = field(repr=False)


def render_clip(plan: ClipPlan) -> Clip:
    """Render a clip. The same plan gives the same clip.

    Raises ValueError for an unknown sprite, background, style or trajectory, or if there
    is no frame or no actor.
    """
    if plan.frames < 1 or not plan.actors:
        raise ValueError("a clip needs at least one frame and one actor")
    scenes = [plan.scene(frame) for frame in range(plan.frames)]
    rendered = [compose(scene) for scene in scenes]
    centres = [[sprite.centre for sprite in scene.sprites] for scene in scenes]
    return Clip(
        plan,
        np.stack([picture for picture, _ in rendered]),
        np.array(centres, np.float32),
        np.stack([masks for _, masks in rendered]),
    )


def crossing(
    first: str, second: str, background: str, style: str = "plain", frames: int = 16, seed: int = 0
) -> ClipPlan:
    """Return the plan of a clip in which two sprites cross on their way."""
    actors = (
        Actor(first, (30, 48), (98, 52), 52),
        Actor(second, (98, 88), (30, 84), 52),
    )
    return ClipPlan(actors, background, style, frames, seed)


def demo_plan() -> ClipPlan:
    """Return the plan of the demo's clip: a rabbit that moves over the grass."""
    actor = Actor("rabbit", (34, 86), (94, 74), 58, "curved")
    return ClipPlan((actor,), "grass", "plain", 16, seed=7)


def long_plan() -> ClipPlan:
    """Return the plan of the demo's long clip: the rabbit again, three times as slow."""
    return replace(demo_plan(), frames=48)


def second_plan() -> ClipPlan:
    """Return the plan of the demo's second clip: a penguin that walks over the snow, ever faster."""
    actor = Actor("penguin", (34, 78), (94, 84), 56, "accelerating")
    return ClipPlan((actor,), "snow", "plain", 16, seed=9)


def write_mp4(frames: np.ndarray, path: str | os.PathLike, fps: float = 8, scale: int = 4) -> None:
    """Write frames, uint8 RGB (F, H, W, 3), as an MP4, each pixel `scale` pixels wide.

    Raises OSError if OpenCV cannot write the file.
    """
    height, width = (side * scale for side in frames.shape[1:3])
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(os.fspath(path), code, fps, (width, height))
    if not writer.isOpened():
        raise OSError(f"cannot write {os.fspath(path)}")
    for frame in frames:
        large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
        writer.write(np.ascontiguousarray(large[..., ::-1]))
    writer.release()


def inside(clip: Clip) -> bool:
    """Whether every sprite's square stays inside the picture in every frame."""
    for frame in range(clip.plan.frames):
        for sprite in clip.plan.scene(frame).sprites:
            reach = sprite.size / 2
            if min(sprite.centre) < reach or max(sprite.centre) > SIDE - reach:
                return False
    return True


_PATHS: dict[str, Callable[[float], tuple[float, float]]] = {
    "straight": lambda time: (time, 0.0),
    "curved": lambda time: (time, 0.35 * math.sin(math.pi * time)),
    "accelerating": lambda time: (time**2, 0.0),
    "growing": lambda time: (time, 0.0),
    "still": lambda time: (0.0, 0.0),
}
