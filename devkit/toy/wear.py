"""Pictures as a decoder or a video file might have left them, for the classifier to learn from."""

from __future__ import annotations

import cv2
import numpy as np


def wear(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a worn copy of a picture, uint8 RGB (H, W, 3).

    Blur, a loss of resolution, JPEG, a slight change of colour and noise, each at times.
    """
    worn = np.ascontiguousarray(picture)
    height, width = worn.shape[:2]
    if rng.random() < 0.5:
        worn = cv2.GaussianBlur(worn, (0, 0), rng.uniform(0.3, 1.8))
    if rng.random() < 0.3:
        share = rng.uniform(0.35, 0.9)
        small = cv2.resize(worn, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        worn = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        worn = cv2.imdecode(cv2.imencode(".jpg", worn, quality)[1], cv2.IMREAD_COLOR)
    values = worn.astype(np.float32)
    if rng.random() < 0.7:
        values = values * rng.uniform(0.92, 1.08, 3) + rng.uniform(-10, 10, 3)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(1, 10), worn.shape)
        if rng.random() < 0.5:
            noise = 3 * cv2.GaussianBlur(noise, (0, 0), 1.5)
        values = values + noise
    return np.clip(values, 0, 255).astype(np.uint8)
