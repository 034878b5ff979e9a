"""Compose captioned pictures: sprites on a background, in a style."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from .backgrounds import SIDE, draw_background
from .styles import apply_style
from .vocabulary import BACKGROUNDS, OBJECTS, STYLES, caption, is_held_out

SIZES = (48, 76)
"""Smallest and largest side of a sprite's square, in pixels."""

_SPRITES = Path(__file__).parent / "sprites"


@dataclass(frozen=True)
class Sprite:
    """One sprite: its name, its square's centre (x, y) and side, both in pixels."""

    name: str
    centre: tuple[float, float]
    size: float


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture. Later sprites hide earlier ones."""

    sprites: tuple[Sprite, ...]
    background: str
    style: str = "plain"
    seed: int = 0

    @property
    def caption(self) -> str:
        """The caption of this scene."""
        return caption([sprite.name for sprite in self.sprites], self.background, self.style)


def compose(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Render a scene.

    Returns the picture, uint8 RGB (128, 128, 3), and the masks of the sprites' visible
    parts, bool (sprites, 128, 128). The same scene gives the same picture. Raises
    ValueError for an unknown sprite, background or style.
    """
    picture = draw_background(scene.background, scene.seed)
    masks = np.zeros((len(scene.sprites), SIDE, SIDE), bool)
    for index, sprite in enumerate(scene.sprites):
        layer = _place(sprite)
        alpha = layer[..., 3:]
        picture = picture * (1 - alpha) + layer[..., :3]
        masks[:index] &= alpha[..., 0] <= 0.5
        masks[index] = alpha[..., 0] > 0.5
    picture = apply_style(picture.astype(np.float32), scene.style)
    return np.round(picture * 255).astype(np.uint8), masks


def random_scene(
    rng: np.random.Generator,
    *,
    held_out: bool = False,
    pair_share: float = 0.1,
    objects: tuple[str, ...] = OBJECTS,
    style: str | None = None,
) -> Scene:
    """Draw a scene: one sprite, or two with probability `pair_share`.

    `held_out` chooses between the compositions that training shows and those that it
    never shows (the latter have one sprite); names outside `OBJECTS` and a given style
    outside `STYLES` are never held out.
    """
    while True:
        name = str(rng.choice(objects))
        background = str(rng.choice(BACKGROUNDS))
        chosen = style or str(rng.choice(STYLES))
        known = name in OBJECTS and chosen in STYLES
        if held_out == (known and is_held_out(name, background, chosen)):
            break
    seed = int(rng.integers(2**31))
    if held_out or rng.random() >= pair_share:
        return Scene((_random_sprite(rng, name),), background, chosen, seed)
    other = str(rng.choice([item for item in OBJECTS if item != name]))
    return Scene(_random_pair(rng, name, other), background, chosen, seed)


def _random_sprite(rng: np.random.Generator, name: str) -> Sprite:
    size = rng.uniform(*SIZES)
    margin = size / 2
    return Sprite(name, tuple(rng.uniform(margin, SIDE - margin, 2)), size)


def _random_pair(rng: np.random.Generator, first: str, second: str) -> tuple[Sprite, Sprite]:
    """Draw two sprites side by side, the first one left, at most a little overlapping."""
    sizes = rng.uniform(SIZES[0], 60, 2)
    left = rng.uniform(sizes[0] / 2, 64 - sizes[0] / 4)
    right = rng.uniform(64 + sizes[1] / 4, SIDE - sizes[1] / 2)
    rows = [rng.uniform(size / 2, SIDE - size / 2) for size in sizes]
    return (
        Sprite(first, (left, rows[0]), float(sizes[0])),
        Sprite(second, (right, rows[1]), float(sizes[1])),
    )


@lru_cache(maxsize=64)
def _load_sprite(name: str) -> np.ndarray:
    """Return a sprite as float32 RGBA with premultiplied alpha."""
    pixels = cv2.imread(str(_SPRITES / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"unknown sprite {name!r}")
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


def _place(sprite: Sprite) -> np.ndarray:
    """Return the sprite on an empty picture, premultiplied RGBA (128, 128, 4) in 0..1."""
    pixels = _load_sprite(sprite.name)
    scale = sprite.size / pixels.shape[1]
    middle = (np.array(pixels.shape[1::-1]) - 1) / 2
    shift = np.array(sprite.centre) - 0.5 - scale * middle
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
    layer = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.clip(layer, 0, 1)
