"""What can be in a picture of the closed world, and how a caption says it."""

from __future__ import annotations

import re
from typing import NamedTuple

OBJECTS = (
    "rabbit",
    "cat",
    "dog",
    "elephant",
    "penguin",
    "frog",
    "pig",
    "turtle",
    "jeep",
    "car",
    "rocket",
    "boat",
    "apple",
    "pumpkin",
    "mushroom",
    "football",
)
"""Objects of the base checkpoint, in the order of the judge's outputs."""

NEW_OBJECT = "robot"
"""Sprite that the base checkpoint and the judge never see."""

NEW_WORD = "sks"
"""Word under which the DreamBooth variant learns `NEW_OBJECT`."""

BACKGROUNDS = ("grass", "snow", "beach", "road", "night sky", "sunset")
"""Backgrounds, in the order of the judge's outputs."""

STYLES = ("plain", "sketch", "pixel art")
"""Styles of the base checkpoint, in the order of the judge's outputs."""

NEW_STYLE = "neon"
"""Style that only the LoRA knows."""

_PLACES = {
    "grass": "on the grass",
    "snow": "on the snow",
    "beach": "on the beach",
    "road": "on the road",
    "night sky": "in the night sky",
    "sunset": "at sunset",
}


class Meaning(NamedTuple):
    """What a caption asks for: one or two objects, a background and a style."""

    objects: tuple[str, ...]
    background: str
    style: str


def caption(objects: tuple[str, ...] | list[str], background: str, style: str = "plain") -> str:
    """Return the caption of a picture, e.g. ``"a cat and a dog on the beach, sketch style"``.

    Raises ValueError for an unknown background or without any object.
    """
    if not objects:
        raise ValueError("a caption needs at least one object")
    if background not in _PLACES:
        raise ValueError(f"unknown background {background!r}; known: {', '.join(BACKGROUNDS)}")
    subject = " and ".join(f"{_article(name)} {name}" for name in objects)
    suffix = "" if style == "plain" else f", {style} style"
    return f"{subject} {_PLACES[background]}{suffix}"


def parse_caption(text: str) -> Meaning:
    """Return what a caption made by `caption` asks for.

    Raises ValueError if the text is not of that form.
    """
    places = "|".join(re.escape(place) for place in _PLACES.values())
    match = re.fullmatch(rf"an? (\w+)(?: and an? (\w+))? ({places})(?:, (.+) style)?", text.strip())
    if match is None:
        raise ValueError(f"not a caption of this world: {text!r}")
    first, second, place, style = match.groups()
    background = next(name for name, words in _PLACES.items() if words == place)
    objects = (first,) if second is None else (first, second)
    return Meaning(objects, background, style or "plain")


def is_held_out(name: str, background: str, style: str) -> bool:
    """Whether training never shows this object, background and style together.

    One composition in nine is held out; every pair (object with background, object
    with style, background with style) still occurs in training.
    """
    total = OBJECTS.index(name) + BACKGROUNDS.index(background) + 3 * STYLES.index(style)
    return total % 9 == 0


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
