"""Whether a frame shows the sprite that the judge was never taught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from devkit.world.clips import Clip, render_clip
from devkit.world.judge import CELL, Judge
from devkit.world.vocabulary import NEW_OBJECT, OBJECTS

from .model import as_frames

SPRITES = (*OBJECTS, NEW_OBJECT)


class Lineup:
    """Tells which of all sprites, the new one among them, stands in the place of a clip's one sprite.

    The judge names only what it was taught, but its features tell sprites apart. So the clip is composed anew with
    every sprite in the source's place, each goes through the autoencoder, as an edit does, and a frame shows the
    sprite whose features are the nearest within the sprite's square: by the cosine of what sets them apart from the
    mean of all sprites, since most of what the features hold is the background. ``autoencode`` is encode and decode of
    frames (F, H, W, 3); ``place`` bool (F, H, W) is the square.
    """

    def __init__(
        self, judge: Judge, clip: Clip, place: np.ndarray, autoencode: Callable[[Tensor], Tensor]
    ) -> None:
        (actor,) = clip.plan.actors
        self.judge = judge
        cells = functional.avg_pool2d(torch.from_numpy(place).float()[:, None], CELL)
        self.weights = cells / cells.sum(dim=(2, 3), keepdim=True)
        plans = [
            dataclasses.replace(clip.plan, actors=(dataclasses.replace(actor, name=n),)) for n in SPRITES
        ]
        clips = [autoencode(as_frames(render_clip(plan).frames)) for plan in plans]
        # What the judge takes the newcomer for, and how far from its place.
        answer = judge(clips[SPRITES.index(NEW_OBJECT)].to(judge.style.weight.device))
        self.taken_for = answer["object"].cpu().numpy()
        self.aside = answer["centre"].cpu().numpy() - clip.centres[:, 0]
        features = [self._features(frames) for frames in clips]
        self.common = torch.stack(features).mean(dim=0)
        self.known = torch.stack(features) - self.common

    def shown(self, frames: Tensor) -> list[str]:
        """The sprite that each of the ``frames`` (F, H, W, 3) shows."""
        found = self._features(frames) - self.common
        likeness = functional.cosine_similarity(self.known, found[None], dim=2)
        return [SPRITES[number] for number in likeness.argmax(dim=0).tolist()]

    def centres(self, centres: np.ndarray) -> np.ndarray:
        """Where the newcomer is, (F, 2) in pixels, from the judge's ``centres`` (F, objects, 2) of a frame each.

        The map of what the judge takes it for is looked at, and put right by how far that is off where it is known.
        """
        return centres[np.arange(len(centres)), self.taken_for] - self.aside

    @torch.no_grad()
    def _features(self, frames: Tensor) -> Tensor:
        """(F, features) within the sprite's square."""
        pictures = frames.to(self.judge.style.weight.device).permute(0, 3, 1, 2)
        maps = self.judge.trunk(pictures * 2 - 1).cpu()
        return (maps * self.weights).sum(dim=(2, 3))
