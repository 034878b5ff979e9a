"""Train the classifier on worn pictures, rendered as it goes: it never sees one twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .classifier import SLOTS, Classifier, Reading
from .figures import FIGURES
from .grounds import GROUNDS
from .pool import PAIR_SHARE, random_scene
from .poses import VERBS
from .scene import Scene, render
from .skeleton import JOINTS
from .styles import STYLES
from .training import Settings, device, fit, half_precision
from .wear import wear

SETTINGS = Settings(steps=3000, batch=24, lr=1.5e-3, warmup=100, seed=2, ema=0.995, weight_decay=0.01)

_ABSENT = -100


def train_classifier(folder: Path, settings: Settings = SETTINGS, workers: int = 1) -> Classifier:
    """Train a classifier and return it."""
    torch.manual_seed(settings.seed)
    model = Classifier().to(device(), memory_format=torch.channels_last).train()

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        # Every composition occurs here, also those that the checkpoint never sees, and more pairs.
        scenes = [
            random_scene(rng, pair_share=2 * PAIR_SHARE, held_out=rng.random() < 0.11)
            for _ in range(settings.batch)
        ]
        shown = [render(scene) for scene in scenes]
        worn = np.stack([wear(picture.image, rng) for picture in shown])
        batch = torch.from_numpy(worn).permute(0, 3, 1, 2).float().div(255).to(device())
        with half_precision():
            reading = model.read(batch)
        return reading_loss(reading, labels_of(scenes, [picture.joints for picture in shown]))

    fit("classifier", dict(model.named_parameters()), loss, settings, folder, workers=workers)
    return model.eval()


def labels_of(scenes: list[Scene], joints: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Return what a classifier should say: int64 per slot (N, 2), -100 where a slot is empty.

    `joints` is float32 (N, 2, 11, 2), 0 in empty slots, and `ground` and `style` int64 (N,).
    """
    labels = {
        name: torch.full((len(scenes), SLOTS), _ABSENT) for name in ("figure", "look", "verb", "facing")
    }
    places = torch.zeros(len(scenes), SLOTS, len(JOINTS), 2)
    for row, (scene, found) in enumerate(zip(scenes, joints, strict=True)):
        order = np.argsort([one[2, 0] for one in found])
        for slot, index in enumerate(order):
            figure = scene.figures[index]
            labels["figure"][row, slot] = FIGURES.index(figure.name)
            labels["look"][row, slot] = figure.look
            labels["verb"][row, slot] = VERBS.index(figure.verb)
            labels["facing"][row, slot] = int(figure.facing > 0)
            places[row, slot] = torch.from_numpy(found[index])
    labels["joints"] = places
    labels["ground"] = torch.tensor([GROUNDS.index(scene.ground) for scene in scenes])
    labels["style"] = torch.tensor([STYLES.index(scene.style) for scene in scenes])
    return {name: value.to(device()) for name, value in labels.items()}


def reading_loss(reading: Reading, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss of a reading with gradients; joints beyond the picture do not count."""
    there = (labels["figure"] != _ABSENT).float()
    total = F.binary_cross_entropy_with_logits(reading.there, there)
    for name, logits in reading.slots.items():
        total = total + F.cross_entropy(logits.flatten(0, 1), labels[name].flatten(), ignore_index=_ABSENT)
    inside = ((labels["joints"] > 0) & (labels["joints"] < 128)).all(dim=3).float() * there[..., None]
    distance = (reading.joints - labels["joints"]).abs().sum(dim=3)
    total = total + 0.15 * (distance * inside).sum() / inside.sum().clamp(min=1)
    ground = F.cross_entropy(reading.ground, labels["ground"])
    return total + ground + F.cross_entropy(reading.style, labels["style"])
