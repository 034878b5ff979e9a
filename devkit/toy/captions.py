"""Captions: who does what where, and in which style. Looks and phases are never named."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from .figures import FIGURES
from .grounds import GROUNDS
from .poses import VERBS
from .scene import Scene

_PLACES = {
    "beach": "on the beach",
    "snow": "in the snow",
    "moon": "on the moon",
    "forest": "in the forest",
    "city": "in the city",
    "desert": "in the desert",
}

SHORT_SHARE = 0.1
"""Share of training captions that say only a part: a figure, a figure and a ground, a style and so on."""

NEW_WORD = "sks"
"""Word under which the DreamBooth variant learns its figure."""


class Meaning(NamedTuple):
    """What a caption asks for: one or two figures, a verb, a ground and a style."""

    figures: tuple[str, ...]
    verb: str
    ground: str
    style: str


def caption(figures: tuple[str, ...] | list[str], verb: str, ground: str, style: str = "plain") -> str:
    """Return a caption, e.g. ``"a robot and a panda are dancing in the forest, sketch style"``.

    Raises ValueError for an unknown ground or without any figure.
    """
    if not figures:
        raise ValueError("a caption needs at least one figure")
    if ground not in _PLACES:
        raise ValueError(f"unknown ground {ground!r}; known: {', '.join(GROUNDS)}")
    suffix = "" if style == "plain" else f", {style} style"
    return f"{_subject(figures)} {'is' if len(figures) == 1 else 'are'} {verb} {_PLACES[ground]}{suffix}"


def parse_caption(text: str) -> Meaning:
    """Return what a caption made by `caption` asks for. Raises ValueError if it is not of that form."""
    places, verbs = "|".join(_PLACES.values()), "|".join(VERBS)
    match = re.fullmatch(
        rf"an? (\w+)(?: and an? (\w+))? (?:is|are) ({verbs}) ({places})(?:, (\w+) style)?", text.strip()
    )
    if match is None:
        raise ValueError(f"not a caption of the toy dataset: {text!r}")
    first, second, verb, place, style = match.groups()
    ground = next(name for name, words in _PLACES.items() if words == place)
    return Meaning((first,) if second is None else (first, second), verb, ground, style or "plain")


def caption_of(scene: Scene) -> str:
    """Return the whole caption of a scene; all of its figures do what the first one does."""
    names = [figure.name for figure in scene.figures]
    return caption(names, scene.figures[0].verb, scene.ground, scene.style)


def training_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return the whole caption or, at times, a part of it, so that words are learned alone as well."""
    if rng.random() >= SHORT_SHARE:
        return caption_of(scene)
    names, verb = [figure.name for figure in scene.figures], scene.figures[0].verb
    verb = f"{'is' if len(names) == 1 else 'are'} {verb}"
    place, style = _PLACES[scene.ground], f", {scene.style} style"
    parts = [
        _subject(names),
        f"{_subject(names)} {place}",
        f"{_subject(names)} {verb}",
        names[0] if len(names) == 1 else " and ".join(names),
        verb.split(" ", 1)[1],
        scene.ground,
    ]
    return parts[rng.integers(len(parts))] + (style if scene.style != "plain" else "")


def is_held_out(figure: str, verb: str, ground: str) -> bool:
    """Whether training never shows this figure do this on this ground.

    One composition in nine is held out; every pair of the three still occurs in training.
    """
    total = FIGURES.index(figure) + 2 * GROUNDS.index(ground) + 4 * VERBS.index(verb)
    return total % len(FIGURES) == 0


def _subject(names: tuple[str, ...] | list[str]) -> str:
    return " and ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)
