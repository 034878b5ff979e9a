"""Re-render agreement: render what the classifier reads in a picture and compare the two.

A smear fails it, a crisp figure passes: what was read is drawn anew and compared where the figure is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from .classifier import Classifier, Reading
from .figures import FIGURES
from .grounds import GROUNDS
from .poses import VERBS, pose
from .scene import Figure, Scene, render
from .skeleton import rig
from .styles import STYLES

PHASES = 48
"""Phases of a verb among which the one is sought that fits the joints best."""


@dataclass(frozen=True)
class Agreement:
    """How far a picture is what was read in it, inside the figures' masks.

    `psnr` in dB and `similarity` (structural, up to 1) compare the picture with `scene`, rendered;
    `misfit` is the mean distance in pixels of the joints read from those of the pose found.
    """

    scene: Scene
    psnr: float
    similarity: float
    misfit: float


def fit_figure(name: str, look: int, verb: str, facing: int, joints: np.ndarray) -> tuple[Figure, float]:
    """Return the figure whose joints come closest to `joints` (11, 2), and the mean distance in pixels."""
    there = joints[:, 0] + 1j * joints[:, 1]
    best: tuple[float, Figure] | None = None
    for phase in np.arange(PHASES) / PHASES:
        model = rig(pose(verb, phase)).joints
        model = -np.conj(model) if facing < 0 else model
        centred, target = model - model.mean(), there - there.mean()
        size = float(np.clip((centred.conj() * target).real.sum() / (abs(centred) ** 2).sum(), 0.5, 1.6))
        place = there.mean() - size * model.mean()
        distance = float(abs(size * model + place - there).mean())
        if best is None or distance < best[0]:
            best = distance, Figure(name, look, verb, float(phase), place.real, place.imag, size, facing)
    return best[1], best[0]


def scenes_read(reading: Reading) -> list[tuple[Scene, float]]:
    """Return, per picture, the scene that a reading describes and its joints' misfit in pixels.

    The ground's landmarks are not read: they are those of seed 0.
    """
    names = {name: reading.best(name).cpu().numpy() for name in (*reading.slots, "ground", "style")}
    out = []
    for row in range(len(reading.there)):
        slots = [slot for slot in range(2) if reading.there[row, slot] > 0.5]
        # A picture without any figure that is sure still has one that is likeliest.
        slots = slots or [int(reading.there[row].argmax())]
        fitted = [
            fit_figure(
                FIGURES[names["figure"][row, slot]],
                int(names["look"][row, slot]),
                VERBS[names["verb"][row, slot]],
                1 if names["facing"][row, slot] else -1,
                reading.joints[row, slot].cpu().numpy(),
            )
            for slot in slots
        ]
        ground, style = GROUNDS[names["ground"][row]], STYLES[names["style"][row]]
        scene = Scene(tuple(figure for figure, _ in fitted), ground, style)
        out.append((scene, float(np.mean([misfit for _, misfit in fitted]))))
    return out


def agreement(classifier: Classifier, images: np.ndarray) -> list[Agreement]:
    """Return the agreement of each picture, uint8 RGB (N, 128, 128, 3), with what is read in it."""
    reading = classifier(torch.from_numpy(images).float().div(255))
    out = []
    for image, (scene, misfit) in zip(images, scenes_read(reading), strict=True):
        drawn = render(scene)
        mask = drawn.masks.any(axis=0)
        out.append(Agreement(scene, *compare(image, drawn.image, mask), misfit))
    return out


def compare(image: np.ndarray, other: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB and structural similarity of two uint8 pictures over a mask (H, W)."""
    if not mask.any():
        return 0.0, 0.0
    first, second = image.astype(np.float64), other.astype(np.float64)
    error = ((first - second) ** 2).mean(axis=2)[mask].mean()
    psnr = float(10 * np.log10(255**2 / max(error, 1e-3)))
    return psnr, float(_similarity(first, second)[mask].mean())


def _similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the structural similarity at each pixel (H, W), over windows of 1.5 pixels' spread."""

    def blur(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), 1.5)

    mean, other = blur(first), blur(second)
    spread, spread_other = blur(first**2) - mean**2, blur(second**2) - other**2
    shared = blur(first * second) - mean * other
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean * other + low) * (2 * shared + high)
    return (top / ((mean**2 + other**2 + low) * (spread + spread_other + high))).mean(axis=2)
