"""Random scenes, and pools of their pictures kept on disk so that every stage reads the same ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .canvas import SIDE
from .captions import is_held_out
from .figures import FIGURES, LOOKS, NEW_FIGURE
from .grounds import GROUNDS
from .poses import VERBS
from .scene import Camera, Figure, Front, Scene, render
from .styles import STYLES

PAIR_SHARE, FRONT_SHARE = 0.16, 0.05
"""Shares of pictures with two figures, and with something in front of them."""

STYLE_SHARES = (0.64, 0.18, 0.18)
"""How often each of `STYLES` is drawn."""


def random_scene(
    rng: np.random.Generator,
    figure: str | None = None,
    style: str | None = None,
    pair_share: float = PAIR_SHARE,
    held_out: bool = False,
) -> Scene:
    """Return a random scene, of a given figure or style if asked.

    Held-out compositions never occur, or with `held_out` only those do.
    """
    while True:
        names = [figure or str(rng.choice(FIGURES))]
        if rng.random() < pair_share:
            names.append(str(rng.choice([name for name in FIGURES if name != names[0]])))
        verb, ground = str(rng.choice(VERBS)), str(rng.choice(GROUNDS))
        known = [name for name in names if name != NEW_FIGURE]
        if not known or any(is_held_out(name, verb, ground) for name in known) == held_out:
            break
    style = style or str(rng.choice(STYLES, p=STYLE_SHARES))
    camera = Camera(rng.uniform(-60, 188), 64, rng.uniform(0.9, 1.12))
    centres = [rng.uniform(44, 84)] if len(names) == 1 else [rng.uniform(32, 42), rng.uniform(86, 96)]
    actors = tuple(
        _figure(rng, name, verb, centre, camera, largest=1.12 if len(names) == 1 else 0.98)
        for name, centre in zip(names, centres, strict=True)
    )
    front = None
    if rng.random() < FRONT_SHARE:
        front = Front(str(rng.choice(["post", "bush"])), camera.x + rng.uniform(-50, 50) / camera.zoom)
    return Scene(actors, ground, style, int(rng.integers(2**31)), camera, front)


def _figure(
    rng: np.random.Generator, name: str, verb: str, centre: float, camera: Camera, largest: float
) -> Figure:
    """Return a random figure whose middle is at `centre` in the picture and whose head is inside."""
    bottom = rng.uniform(110, 122)
    highest = (bottom - 2) / (118 if verb in ("jumping", "doing star jumps") else 102)
    size = min(rng.uniform(0.9, largest), highest)
    ground = camera.place().inverse()(complex(centre, bottom))
    return Figure(
        name,
        int(rng.integers(LOOKS)),
        verb,
        float(rng.random()),
        ground.real,
        ground.imag,
        size / camera.zoom,
        int(rng.choice([-1, 1])),
    )


def scenes(count: int, seed: int, **choices: object) -> list[Scene]:
    """Return `count` random scenes; `choices` go to `random_scene`."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, **choices) for _ in range(count)]


def pictures(pool: list[Scene], path: Path) -> np.ndarray:
    """Return the pictures of the scenes, uint8 (scenes, 128, 128, 3), rendered once to disk."""
    if not path.exists():
        temporary = path.with_suffix(".part")
        out = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(pool), SIDE, SIDE, 3))
        for index, scene in enumerate(pool):
            out[index] = render(scene).image
        out.flush()
        os.replace(temporary, path)
    return np.load(path, mmap_mode="c")


def rendered(pool: list[Scene]) -> np.ndarray:
    """Return the pictures of the scenes, uint8 (scenes, 128, 128, 3)."""
    return np.stack([render(scene).image for scene in pool])


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return uint8 pictures (N, H, W, 3) as float32 (N, 3, H, W) in -1..1, channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
    return tensor.float().div(127.5).sub(1)
