"""Styles: pure functions from picture to picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

NEW_STYLE = "neon"
"""Style that only the LoRA knows."""


def apply_style(picture: np.ndarray, style: str) -> np.ndarray:
    """Return a picture, uint8 RGB (H, W, 3), redrawn in a style. Raises ValueError for an unknown one."""
    if style not in _FILTERS:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(_FILTERS)}")
    if style == "plain":
        return picture
    redrawn = _FILTERS[style](picture.astype(np.float32) / 255)
    return np.round(np.clip(redrawn, 0, 1) * 255).astype(np.uint8)


def _edges(picture: np.ndarray) -> np.ndarray:
    """Return the strength of colour edges (H, W, 1) in 0..1."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = cv2.GaussianBlur(np.sqrt(across**2 + down**2).max(axis=2), (0, 0), 0.6)
    return np.clip(strength * 0.9 - 0.12, 0, 1)[..., None]


def _ink(picture: np.ndarray) -> np.ndarray:
    """Return how much of each pixel the figures' outlines cover, (H, W, 1) in 0..1; nothing else is as dark."""
    dark = np.clip((0.22 - picture.max(axis=2)) / 0.05, 0, 1)
    return np.clip(1.7 * cv2.GaussianBlur(dark, (0, 0), 0.7), 0, 1)[..., None]


def _sketch(picture: np.ndarray) -> np.ndarray:
    # Some colour stays: shades of grey alone would not tell grass from sand.
    paper = np.array([0.99, 0.98, 0.95], np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    wash = paper * 0.6 + 0.4 * (0.6 * picture + 0.4 * grey)
    line = np.maximum(_ink(picture), 0.45 * _edges(picture))
    return wash * (1 - line) + 0.12 * line


def _blueprint(picture: np.ndarray) -> np.ndarray:
    grey = picture @ np.array([0.3, 0.55, 0.15], np.float32)
    paper, chalk = np.array([0.04, 0.12, 0.36], np.float32), np.array([0.36, 0.58, 0.88], np.float32)
    flat = paper + grey[..., None] * (chalk - paper)
    line = np.maximum(_ink(picture), 0.35 * _edges(picture))
    return flat * (1 - line) + np.array([0.80, 0.90, 1.0], np.float32) * line


def _neon(picture: np.ndarray) -> np.ndarray:
    glow = cv2.GaussianBlur(_edges(picture), (0, 0), 1.2)[..., None]
    peak = picture.max(axis=2, keepdims=True)
    vivid = (picture / np.maximum(peak, 1e-3)) ** 2
    dark = np.array([0.05, 0.02, 0.10], np.float32) + 0.12 * picture
    return dark + np.clip(glow * 1.8, 0, 1) * (0.25 + 0.75 * vivid)


_FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda picture: picture,
    "sketch": _sketch,
    "blueprint": _blueprint,
    "neon": _neon,
}

STYLES = tuple(name for name in _FILTERS if name != NEW_STYLE)
"""Styles of the base checkpoint, in the order of the classifier's outputs."""
