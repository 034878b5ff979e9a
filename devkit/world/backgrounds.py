"""Backgrounds of the closed world, drawn by code with mild variation."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

SIDE = 128
"""Height and width of every picture, in pixels."""


def draw_background(name: str, seed: int) -> np.ndarray:
    """Return a background as float32 RGB (128, 128, 3) in 0..1.

    The same name and seed give the same picture. Raises ValueError for an unknown name.
    """
    if name not in _PAINTERS:
        raise ValueError(f"unknown background {name!r}; known: {', '.join(_PAINTERS)}")
    rng = np.random.default_rng([seed, list(_PAINTERS).index(name)])
    picture = _PAINTERS[name](rng)
    tint = 1 + rng.uniform(-0.05, 0.05, 3)
    return np.clip(picture * tint, 0, 1).astype(np.float32)


def _colour(red: int, green: int, blue: int) -> np.ndarray:
    return np.array([red, green, blue], np.float32) / 255


def _gradient(top: np.ndarray, bottom: np.ndarray, rows: int) -> np.ndarray:
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top + (bottom - top) * ramp, (rows, SIDE, 3))


def _two_bands(
    horizon: int, sky: tuple[np.ndarray, np.ndarray], ground: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    return np.concatenate([_gradient(*sky, horizon), _gradient(*ground, SIDE - horizon)])


def _ellipse(
    picture: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], colour: np.ndarray
) -> None:
    """Draw an anti-aliased filled ellipse in place (sub-pixel by a 4-bit shift)."""
    cv2.ellipse(
        picture,
        (round(centre[0] * 16), round(centre[1] * 16)),
        (round(axes[0] * 16), round(axes[1] * 16)),
        0,
        0,
        360,
        colour.tolist(),
        -1,
        cv2.LINE_AA,
        4,
    )


def _polygon(picture: np.ndarray, points: list[tuple[float, float]], colour: np.ndarray) -> None:
    corners = np.round(np.array(points) * 16).astype(np.int32)
    cv2.fillPoly(picture, [corners], colour.tolist(), cv2.LINE_AA, 4)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    # OpenCV draws anti-aliased shapes on 8-bit pictures only.
    return np.ascontiguousarray(np.clip(picture * 255, 0, 255).astype(np.uint8))


def _draw(picture: np.ndarray, shapes: Callable[[np.ndarray], None]) -> np.ndarray:
    canvas = _to_bytes(picture)
    shapes(canvas)
    return canvas.astype(np.float32) / 255


def _grass(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(36, 56))
    picture = _two_bands(
        horizon,
        (_colour(120, 190, 245), _colour(200, 230, 250)),
        (_colour(120, 190, 70), _colour(70, 145, 45)),
    )

    def hills(canvas: np.ndarray) -> None:
        for _ in range(2):
            centre = (rng.uniform(0, SIDE), horizon + 14)
            _ellipse(canvas, centre, (rng.uniform(30, 55), 20), _colour(105, 178, 62) * 255)
        canvas[horizon + 12 :] = _to_bytes(picture)[horizon + 12 :]

    return _draw(picture, hills)


def _snow(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(40, 60))
    picture = _two_bands(
        horizon,
        (_colour(150, 170, 195), _colour(190, 205, 222)),
        (_colour(250, 252, 255), _colour(222, 234, 248)),
    )

    def mounds(canvas: np.ndarray) -> None:
        for _ in range(2):
            centre = (rng.uniform(0, SIDE), horizon + 10)
            _ellipse(canvas, centre, (rng.uniform(25, 45), 16), _colour(246, 249, 254) * 255)
        for _ in range(5):
            spot = (rng.uniform(4, SIDE - 4), rng.uniform(4, 32))
            _ellipse(canvas, spot, (2.6, 2.6), _colour(250, 252, 255) * 255)

    return _draw(picture, mounds)


def _beach(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(28, 44))
    shore = horizon + int(rng.integers(18, 30))
    sky = _gradient(_colour(130, 205, 250), _colour(215, 240, 250), horizon)
    sea = _gradient(_colour(25, 120, 190), _colour(60, 175, 205), shore - horizon)
    sand = _gradient(_colour(240, 215, 160), _colour(225, 190, 125), SIDE - shore)
    picture = np.concatenate([sky, sea, sand])
    foam = _colour(245, 250, 250)
    picture[shore - 2 : shore + 1] = foam
    return picture


def _road(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(32, 50))
    picture = _two_bands(
        horizon,
        (_colour(165, 195, 215), _colour(215, 225, 228)),
        (_colour(165, 160, 105), _colour(140, 135, 80)),
    )
    vanish = SIDE / 2 + rng.uniform(-20, 20)

    def asphalt(canvas: np.ndarray) -> None:
        middle = SIDE / 2 + rng.uniform(-10, 10)
        _polygon(
            canvas,
            [(vanish - 9, horizon), (vanish + 9, horizon), (middle + 62, SIDE), (middle - 62, SIDE)],
            _colour(88, 90, 96) * 255,
        )
        for start, stop in ((0.1, 0.25), (0.4, 0.6), (0.78, 1.0)):
            rows = [horizon + (SIDE - horizon) * share for share in (start, stop)]
            columns = [vanish + (middle - vanish) * share for share in (start, stop)]
            widths = [1 + 3 * share for share in (start, stop)]
            _polygon(
                canvas,
                [
                    (columns[0] - widths[0], rows[0]),
                    (columns[0] + widths[0], rows[0]),
                    (columns[1] + widths[1], rows[1]),
                    (columns[1] - widths[1], rows[1]),
                ],
                _colour(240, 240, 235) * 255,
            )

    return _draw(picture, asphalt)


def _night_sky(rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(_colour(12, 14, 48), _colour(46, 48, 110), SIDE)

    def lights(canvas: np.ndarray) -> None:
        moon = (rng.uniform(14, SIDE - 14), rng.uniform(14, 30))
        _ellipse(canvas, moon, (9, 9), _colour(250, 240, 200) * 255)
        for _ in range(9):
            star = (rng.uniform(3, SIDE - 3), rng.uniform(3, SIDE - 3))
            _ellipse(canvas, star, (1.9, 1.9), _colour(235, 235, 250) * 255)

    return _draw(picture, lights)


def _sunset(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(66, 88))
    picture = _two_bands(
        horizon,
        (_colour(110, 60, 130), _colour(255, 150, 60)),
        (_colour(130, 60, 75), _colour(60, 30, 65)),
    )
    sun = (rng.uniform(20, SIDE - 20), horizon)

    def light(canvas: np.ndarray) -> None:
        ground = canvas[horizon:].copy()
        _ellipse(canvas, sun, (17, 17), _colour(255, 225, 110) * 255)
        canvas[horizon:] = ground

    return _draw(picture, light)


_PAINTERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "grass": _grass,
    "snow": _snow,
    "beach": _beach,
    "road": _road,
    "night sky": _night_sky,
    "sunset": _sunset,
}
