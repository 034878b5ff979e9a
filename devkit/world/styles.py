"""Styles of the closed world: pure functions from picture to picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

PIXEL = 4
"""Side of one block of the pixel art style, in pixels."""


def apply_style(picture: np.ndarray, style: str) -> np.ndarray:
    """Return float32 RGB (H, W, 3) in 0..1 redrawn in a style.

    Raises ValueError for an unknown style.
    """
    if style not in _FILTERS:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(_FILTERS)}")
    return np.clip(_FILTERS[style](picture), 0, 1).astype(np.float32)


def _plain(picture: np.ndarray) -> np.ndarray:
    return picture


def _edges(picture: np.ndarray) -> np.ndarray:
    """Return the strength of colour edges (H, W) in 0..1."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = np.sqrt(across**2 + down**2).max(axis=2)
    return np.clip(strength * 1.0 - 0.08, 0, 1)


def _sketch(picture: np.ndarray) -> np.ndarray:
    # Some colour stays: shades of grey alone would not tell grass from sand.
    paper = np.array([0.98, 0.97, 0.94], np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    wash = paper * 0.62 + 0.38 * (0.6 * picture + 0.4 * grey)
    line = _edges(picture)[..., None]
    return wash * (1 - line) + 0.12 * line


def _pixel_art(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // PIXEL, height // PIXEL), interpolation=cv2.INTER_AREA)
    levels = 5
    small = np.round(np.clip(small * 1.08 - 0.02, 0, 1) * levels) / levels
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def _neon(picture: np.ndarray) -> np.ndarray:
    glow = cv2.GaussianBlur(_edges(picture), (0, 0), 1.2)[..., None]
    peak = picture.max(axis=2, keepdims=True)
    vivid = (picture / np.maximum(peak, 1e-3)) ** 2
    dark = np.array([0.05, 0.02, 0.10], np.float32) + 0.12 * picture
    return dark + np.clip(glow * 1.6, 0, 1) * (0.25 + 0.75 * vivid)


_FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": _plain,
    "sketch": _sketch,
    "pixel art": _pixel_art,
    "neon": _neon,
}
