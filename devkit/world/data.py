"""Pools of composed pictures, kept on disk so that every stage reads the same ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .backgrounds import SIDE
from .compose import Scene, compose, random_scene


def scenes(count: int, seed: int, **choices: object) -> list[Scene]:
    """Return `count` random scenes; `choices` go to `random_scene`."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, **choices) for _ in range(count)]


def pictures(pool: list[Scene], path: Path) -> np.ndarray:
    """Return the pictures of the scenes, uint8 (scenes, 128, 128, 3), rendered once to disk."""
    if not path.exists():
        temporary = path.with_suffix(".part")
        shape = (len(pool), SIDE, SIDE, 3)
        out = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for index, scene in enumerate(pool):
            out[index] = compose(scene)[0]
        out.flush()
        os.replace(temporary, path)
    return np.load(path, mmap_mode="r")


def rendered(pool: list[Scene]) -> np.ndarray:
    """Return the pictures of the scenes, uint8 (scenes, 128, 128, 3)."""
    return np.stack([compose(scene)[0] for scene in pool])


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return uint8 pictures (N, H, W, 3) as float32 (N, 3, H, W) in -1..1, channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
    return tensor.float().div(127.5).sub(1)
