"""One picture of the toy dataset, and everything known about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import figures, grounds
from .canvas import SIDE, Canvas, Pen, Similarity
from .poses import pose
from .skeleton import PARTS, Rig, rig
from .styles import apply_style

FIRST_PARTS = (10, 30)
"""Number of the first part of each figure in a picture's map of parts. 0 is the ground."""

FRONT_PART = 60
"""Number of what stands in front of everything."""


@dataclass(frozen=True)
class Figure:
    """A figure in a picture: `x` is its middle and `y` its ground line, in pixels of the ground.

    `size` 1 is 93 pixels high. `facing` is 1 to the right and -1 to the left.
    """

    name: str
    look: int
    verb: str
    phase: float
    x: float
    y: float
    size: float = 1.0
    facing: int = 1

    def rig(self) -> Rig:
        """Return its skeleton."""
        return rig(pose(self.verb, self.phase))

    def place(self) -> Similarity:
        """Return the map from the skeleton's coordinates to the ground's."""
        flip = self.facing < 0
        return Similarity(-self.size if flip else self.size, complex(self.x, self.y), flip)


@dataclass(frozen=True)
class Camera:
    """What the picture shows: the ground's point in its middle, and how much larger things get."""

    x: float = SIDE / 2
    y: float = SIDE / 2
    zoom: float = 1.0

    def place(self) -> Similarity:
        """Return the map from the ground's coordinates to the picture's."""
        return Similarity(self.zoom, SIDE / 2 * (1 + 1j) - self.zoom * complex(self.x, self.y))


@dataclass(frozen=True)
class Front:
    """A thing between camera and figures: a "post" or a "bush", at `x` on the ground."""

    kind: str
    x: float


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture. Later figures hide earlier ones."""

    figures: tuple[Figure, ...]
    ground: str
    style: str = "plain"
    seed: int = 0
    camera: Camera = Camera()
    front: Front | None = None


@dataclass(frozen=True)
class Picture:
    """A rendered scene.

    `image` is uint8 RGB (128, 128, 3); `parts` uint8 (128, 128), the number of the part that each
    pixel shows; `joints` float32 (figures, 11, 2), (x, y) in pixels, in the order of `JOINTS`.
    """

    scene: Scene
    image: np.ndarray
    parts: np.ndarray
    joints: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """The visible pixels of each figure, bool (figures, 128, 128)."""
        return figure_masks(self.parts, len(self.scene.figures))


def figure_masks(parts: np.ndarray, count: int) -> np.ndarray:
    """Return where a map of parts, (H, W), shows each of `count` figures, bool (count, H, W)."""
    return np.stack([(parts >= first) & (parts < first + len(PARTS)) for first in FIRST_PARTS[:count]])


def render(scene: Scene) -> Picture:
    """Render a scene; the same scene gives the same picture.

    Raises ValueError for an unknown figure, look, verb, ground, style or front.
    """
    canvas, camera = Canvas(), scene.camera.place()
    grounds.draw(canvas, scene.ground, scene.seed, camera)
    joints = []
    for figure, first in zip(scene.figures, FIRST_PARTS, strict=False):
        bones, place = figure.rig(), camera.after(figure.place())
        figures.draw(canvas, bones, place, figure.name, figure.look, first)
        there = place(bones.joints)
        joints.append(np.stack([there.real, there.imag], axis=1))
    if scene.front:
        _draw_front(Pen(canvas, camera, FRONT_PART), scene.front)
    image = apply_style(canvas.picture(), scene.style)
    return Picture(scene, image, canvas.parts(), np.array(joints, np.float32))


def part_places(scene: Scene) -> dict[int, Similarity]:
    """Return the map from each part's own coordinates to the picture's, by the part's number."""
    camera = scene.camera.place()
    places = {0: camera, FRONT_PART: camera}
    for figure, first in zip(scene.figures, FIRST_PARTS, strict=False):
        frames, place = figure.rig().frames, camera.after(figure.place())
        for index, part in enumerate(PARTS):
            places[first + index] = place.after(frames[part])
    return places


def _draw_front(pen: Pen, front: Front) -> None:
    x = front.x
    if front.kind == "post":
        pen.polygon([x - 7 + 20j, x + 7 + 20j, x + 7 + 140j, x - 7 + 140j], (150, 104, 66))
        pen.polygon([x - 10 + 14j, x + 10 + 14j, x + 10 + 24j, x - 10 + 24j], (176, 126, 82))
    elif front.kind == "bush":
        for dx, y, radius in ((-17, 116, 13), (17, 116, 13), (0, 106, 17)):
            pen.ellipse(x + dx + 1j * y, radius, radius, (64, 132, 74))
        pen.polygon(
            [x - 29 + 119j, x - 17 + 105j, x + 17 + 105j, x + 29 + 119j, x + 29 + 140j, x - 29 + 140j],
            (64, 132, 74),
            False,
        )
    else:
        raise ValueError(f"unknown front {front.kind!r}; known: post, bush")
