"""Clips: a plan decides every frame, and the same plan with other words is the true edit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .captions import caption
from .flow import true_flow
from .poses import STRIDE
from .scene import Camera, Figure, Front, Picture, Scene, render


@dataclass(frozen=True)
class Actor:
    """A figure in a clip: where it stands in frame 0 and how far its phase and place move in a frame.

    `travel` is in strides: 1 walks as far as the feet say, 0 stays in place.
    """

    name: str
    look: int
    verb: str
    x: float = 64.0
    y: float = 116.0
    size: float = 1.0
    facing: int = 1
    phase: float = 0.0
    speed: float = 1 / 12
    travel: float = 0.0

    def at(self, frame: int) -> Figure:
        """Return the figure in a frame."""
        turned = frame * self.speed
        x = self.x + self.facing * self.travel * STRIDE * self.size * turned
        phase = (self.phase + turned) % 1.0
        return Figure(self.name, self.look, self.verb, phase, x, self.y, self.size, self.facing)


@dataclass(frozen=True)
class ClipPlan:
    """Everything that decides a clip. Later actors hide earlier ones; the camera moves evenly."""

    actors: tuple[Actor, ...]
    ground: str
    style: str = "plain"
    frames: int = 16
    seed: int = 0
    camera: Camera = Camera()
    camera_end: Camera | None = None
    front: Front | None = None

    @property
    def caption(self) -> str:
        """The caption of every frame; all actors do what the first one does."""
        return caption([actor.name for actor in self.actors], self.actors[0].verb, self.ground, self.style)

    def scene(self, frame: int) -> Scene:
        """Return the scene of a frame; its ground is the same in all."""
        last, share = self.camera_end or self.camera, frame / max(1, self.frames - 1)
        start = self.camera
        camera = Camera(
            start.x + share * (last.x - start.x),
            start.y + share * (last.y - start.y),
            start.zoom + share * (last.zoom - start.zoom),
        )
        figures = tuple(actor.at(frame) for actor in self.actors)
        return Scene(figures, self.ground, self.style, self.seed, camera, self.front)

    def edited(
        self,
        figures: tuple[str | None, ...] = (),
        looks: tuple[int | None, ...] = (),
        verb: str | None = None,
        ground: str | None = None,
        style: str | None = None,
    ) -> ClipPlan:
        """Return the plan of the true edit: other figures, looks, verb, ground or style, the same motion.

        None, or a shorter tuple, leaves an actor as it is.
        """
        actors = list(self.actors)
        for index, name in enumerate(figures):
            actors[index] = replace(actors[index], name=name or actors[index].name)
        for index, look in enumerate(looks):
            actors[index] = actors[index] if look is None else replace(actors[index], look=look)
        actors = [replace(actor, verb=verb or actor.verb) for actor in actors]
        return replace(self, actors=tuple(actors), ground=ground or self.ground, style=style or self.style)


@dataclass(frozen=True)
class Clip:
    """A rendered clip and everything known about it.

    `frames` is uint8 RGB (F, 128, 128, 3), `joints` float32 (F, actors, 11, 2) as (x, y) in pixels,
    `masks` bool (F, actors, 128, 128) of the visible parts, `parts` uint8 (F, 128, 128).
    """

    plan: ClipPlan
    frames: np.ndarray
    joints: np.ndarray
    masks: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)

    def flow(self, frame: int, other: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the true flow from a frame to another, by default the next; see `true_flow`."""
        other = frame + 1 if other is None else other
        scenes = [self.plan.scene(number) for number in (frame, other)]
        return true_flow(*scenes, self.parts[frame], self.parts[other])


def render_clip(plan: ClipPlan) -> Clip:
    """Render a clip; the same plan gives the same clip.

    Raises ValueError for an unknown name in the plan, or if there is no frame or no actor.
    """
    if plan.frames < 1 or not plan.actors:
        raise ValueError("a clip needs at least one frame and one actor")
    shown: list[Picture] = [render(plan.scene(frame)) for frame in range(plan.frames)]
    return Clip(
        plan,
        np.stack([picture.image for picture in shown]),
        np.stack([picture.joints for picture in shown]),
        np.stack([picture.masks for picture in shown]),
        np.stack([picture.parts for picture in shown]),
    )


def demo_plan(frames: int = 16) -> ClipPlan:
    """Return the plan of the demo's clip: a man walks through the forest, one and a third cycles."""
    actor = Actor("man", 0, "walking", x=28, travel=0.9, speed=1.25 / frames, phase=0.1)
    return ClipPlan((actor,), "forest", frames=frames, seed=7)


def dance_plan(frames: int = 16) -> ClipPlan:
    """Return the plan of a clip in one place: a woman dances on the beach."""
    return ClipPlan((Actor("woman", 0, "dancing", speed=1.25 / frames),), "beach", frames=frames, seed=9)


def pan_plan(frames: int = 48) -> ClipPlan:
    """Return the plan of a long clip: a robot walks through the city and the camera goes with it."""
    actor = Actor("robot", 1, "walking", x=40, travel=1.0, speed=1 / 16)
    end = Camera(x=64 + 0.8 * STRIDE * (frames - 1) / 16)
    return ClipPlan((actor,), "city", frames=frames, seed=11, camera_end=end)


def pair_plan(frames: int = 16) -> ClipPlan:
    """Return the plan of a clip with two figures: a robot and a panda dance in the forest."""
    actors = (
        Actor("robot", 0, "dancing", x=36, size=0.92, speed=1.25 / frames),
        Actor("panda", 1, "dancing", x=92, size=0.92, speed=1.25 / frames, phase=0.5, facing=-1),
    )
    return ClipPlan(actors, "forest", frames=frames, seed=13)


def hidden_plan(frames: int = 16) -> ClipPlan:
    """Return the plan of a clip in which a post hides a walking knight for some frames."""
    actor = Actor("knight", 0, "walking", x=26, travel=0.9, speed=1.25 / frames)
    return ClipPlan((actor,), "desert", frames=frames, seed=15, front=Front("post", 64))
