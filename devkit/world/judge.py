"""A classifier and locator of the closed world, trained on composed pictures only."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from .backgrounds import SIDE
from .compose import Scene
from .data import pictures
from .training import Settings, device, fit, half_precision
from .vocabulary import BACKGROUNDS, OBJECTS, STYLES

SETTINGS = Settings(steps=1700, batch=32, lr=1.5e-3, seed=2, ema=0.998, weight_decay=0.01)

CELL = 8
"""Side of one cell of the judge's map, in pixels."""


class Judge(nn.Module):
    """Says which objects a picture shows and where, its background and its style.

    Call it with frames, float (F, H, W, 3) in 0..1, of any size (they are resized to
    128x128); the names of the outputs' entries are `OBJECTS`, `BACKGROUNDS` and `STYLES`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_layer(3, 32, stride=2),
            *_layer(32, 64, stride=2),
            *_layer(64, 64),
            *_layer(64, 128, stride=2),
            *_layer(128, 128),
            *_layer(128, 128, dilation=2),
            *_layer(128, 128, dilation=2),
        )
        self.maps = nn.Conv2d(128, len(OBJECTS), 1)
        self.background = nn.Linear(128, len(BACKGROUNDS))
        self.style = nn.Linear(128, len(STYLES))

    @torch.no_grad()
    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Judge frames, float (F, H, W, 3) in 0..1.

        Returns tensors on the judge's device: `object_probs` (F, 16), each object's
        probability of being there by itself; `object` (F,), the likeliest;
        `background_probs` (F, 6), `background` (F,), `style_probs` (F, 3), `style` (F,);
        `centres` (F, 16, 2), where each object would be, and `centre` (F, 2), where the
        likeliest is, as (x, y) in pixels of a 128x128 picture; `features` (F, 128).
        Raises ValueError if the frames have another shape.
        """
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be (F, H, W, 3), not {tuple(frames.shape)}")
        frames = frames.to(self.style.weight).permute(0, 3, 1, 2)
        if frames.shape[-2:] != (SIDE, SIDE):
            frames = F.interpolate(frames, (SIDE, SIDE), mode="area")
        presence, centres, background, style, features = self.logits(frames)
        best = presence.argmax(dim=1)
        return {
            "object_probs": presence.sigmoid(),
            "object": best,
            "background_probs": background.softmax(dim=1),
            "background": background.argmax(dim=1),
            "style_probs": style.softmax(dim=1),
            "style": style.argmax(dim=1),
            "centres": centres,
            "centre": centres[torch.arange(len(best)), best],
            "features": features,
        }

    def logits(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return presence, centres, background, style and features of (N, 3, 128, 128)."""
        features = self.trunk(images * 2 - 1)
        maps = self.maps(features).float()
        flat = maps.flatten(2)
        presence = flat.logsumexp(dim=2) - 4
        grid = torch.arange(maps.shape[-1], device=maps.device) * CELL + CELL / 2
        weights = maps.flatten(2).softmax(dim=2).reshape(maps.shape)
        centres = torch.stack(
            [(weights.sum(dim=2) * grid).sum(dim=2), (weights.sum(dim=3) * grid).sum(dim=2)], 2
        )
        pooled = features.mean(dim=(2, 3)).float()
        return presence, centres, self.background(pooled), self.style(pooled), pooled


def load_judge(path: str | os.PathLike) -> Judge:
    """Return the trained judge, float32, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return judge.eval().requires_grad_(False)


def save_judge(judge: Judge, path: str | os.PathLike) -> None:
    """Write the judge's weights as float16."""
    weights = {key: value.half().contiguous() for key, value in judge.state_dict().items()}
    save_file(weights, path)


def train_judge(pool: list[Scene], pictures_path: Path, folder: Path, settings: Settings = SETTINGS) -> Judge:
    """Train a judge on worn copies of the pool's pictures and return it."""
    torch.manual_seed(settings.seed)
    judge = Judge().to(device(), memory_format=torch.channels_last).train()
    images = pictures(pool, pictures_path)
    labels = _Labels(pool)

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        chosen = rng.integers(len(pool), size=settings.batch)
        worn = np.stack([wear(images[index], rng) for index in chosen])
        batch = torch.from_numpy(worn).permute(0, 3, 1, 2).float().div(255).to(device())
        with half_precision():
            presence, centres, background, style, _ = judge.logits(batch)
        there, places, ground, kind = labels.of(chosen)
        distance = (centres - places).abs().sum(dim=2)
        return (
            20 * F.binary_cross_entropy_with_logits(presence, there)
            + F.cross_entropy(background, ground)
            + F.cross_entropy(style, kind)
            + 0.1 * (distance * there).sum() / there.sum()
        )

    fit("judge", dict(judge.named_parameters()), loss, settings, folder)
    return judge.eval()


def wear(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a picture, uint8 (128, 128, 3), as a decoder might have left it.

    Blur, a loss of resolution, noise, JPEG and a slight change of colour, each at times.
    """
    worn = np.ascontiguousarray(picture)
    if rng.random() < 0.5:
        worn = cv2.GaussianBlur(worn, (0, 0), rng.uniform(0.3, 1.8))
    if rng.random() < 0.3:
        side = int(rng.integers(44, 112))
        small = cv2.resize(worn, (side, side), interpolation=cv2.INTER_AREA)
        worn = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        worn = cv2.imdecode(cv2.imencode(".jpg", worn, quality)[1], cv2.IMREAD_COLOR)
    values = worn.astype(np.float32)
    if rng.random() < 0.7:
        values = values * rng.uniform(0.9, 1.1, 3) + rng.uniform(-12, 12, 3)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(1, 10), (SIDE, SIDE, 3))
        if rng.random() < 0.5:
            noise = 3 * cv2.GaussianBlur(noise, (0, 0), 1.5)
        values = values + noise
    return np.clip(values, 0, 255).astype(np.uint8)


class _Labels:
    """What the scenes of a pool show, as tensors."""

    def __init__(self, pool: list[Scene]) -> None:
        self.there = torch.zeros(len(pool), len(OBJECTS))
        self.places = torch.full((len(pool), len(OBJECTS), 2), SIDE / 2)
        for index, scene in enumerate(pool):
            for sprite in scene.sprites:
                column = OBJECTS.index(sprite.name)
                self.there[index, column] = 1
                self.places[index, column] = torch.tensor(sprite.centre)
        self.ground = torch.tensor([BACKGROUNDS.index(scene.background) for scene in pool])
        self.kind = torch.tensor([STYLES.index(scene.style) for scene in pool])

    def of(self, chosen: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Return presence, places, background and style of the chosen scenes."""
        index = torch.from_numpy(chosen)
        parts = (self.there, self.places, self.ground, self.kind)
        return tuple(part[index].to(device()) for part in parts)


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )
