"""The grounds: sky, floor and landmarks, wider than a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import FINE, SIDE, Canvas, Colour, Pen, Similarity

WIDTH = (-160.0, 288.0)
"""Left and right end of every ground, in pixels of a picture without zoom."""

HORIZON = 74.0
"""Height at which sky and floor meet."""


def draw(canvas: Canvas, name: str, seed: int, camera: Similarity) -> None:
    """Fill the canvas with a ground; the seed places its landmarks. Raises ValueError for an unknown one."""
    if name not in _GROUNDS:
        raise ValueError(f"unknown ground {name!r}; known: {', '.join(_GROUNDS)}")
    sky, floor, landmarks = _GROUNDS[name]
    y = (np.arange(SIDE * FINE) + 0.5) / FINE
    height = (y - camera.b.imag) / camera.a.real
    stops = [-60, HORIZON - 0.01, HORIZON, 190]
    colours = np.array([*sky, *floor], float)
    rows = np.stack([np.interp(height, stops, colours[:, band]) for band in range(3)], axis=1)
    canvas.rows(np.round(rows).astype(np.uint8))
    landmarks(Pen(canvas, camera, 0), np.random.default_rng([seed, 17]))


def _spread(rng: np.random.Generator, gap: float) -> list[float]:
    """Return places all along the ground, about `gap` pixels apart."""
    start = WIDTH[0] + rng.uniform(0, gap)
    count = int((WIDTH[1] - start) / gap) + 1
    return [start + gap * (index + rng.uniform(-0.3, 0.3)) for index in range(count)]


def _patches(pen: Pen, rng: np.random.Generator, colour: Colour, gap: float = 46) -> None:
    for x in _spread(rng, gap):
        middle, wide = x + 1j * rng.uniform(HORIZON + 12, 122), rng.uniform(7, 13)
        pen.ellipse(middle, wide, wide / 3, colour, False)


def _band(pen: Pen, top: float, bottom: float, colour: Colour) -> None:
    left, right = WIDTH
    pen.polygon([left + 1j * top, right + 1j * top, right + 1j * bottom, left + 1j * bottom], colour, False)


def _peaks(
    pen: Pen, rng: np.random.Generator, gap: float, high: tuple, colour: Colour, cap: Colour | None
) -> None:
    for x in _spread(rng, gap):
        up, half = rng.uniform(*high), rng.uniform(0.62, 0.8) * gap
        tip = x + 1j * (HORIZON - up)
        pen.polygon([x - half + 1j * HORIZON, tip, x + half + 1j * HORIZON], colour, False)
        if cap:
            low = 0.38
            pen.polygon([tip + low * (-half + 1j * up), tip, tip + low * (half + 1j * up)], cap, False)


def _beach(pen: Pen, rng: np.random.Generator) -> None:
    _band(pen, HORIZON - 12, HORIZON + 1, (52, 150, 208))
    _patches(pen, rng, (224, 190, 124))
    for x in _spread(rng, 92):
        if rng.random() < 0.5:
            _palm(pen, x, rng.uniform(-7, 7))
        else:
            _parasol(pen, x, ((236, 84, 84), (250, 170, 60))[int(rng.integers(2))])


def _palm(pen: Pen, x: float, bend: float) -> None:
    top = x + bend + 1j * (HORIZON - 36)
    pen.polygon(
        [x - 3 + (HORIZON + 6) * 1j, x + 3 + (HORIZON + 6) * 1j, top + 2, top - 2], (158, 116, 70), False
    )
    for way in (-20 + 9j, 20 + 9j, -15 - 7j, 15 - 7j):
        pen.polygon(
            [top - 3j, top + way / 2 - 5j, top + way, top + way / 2 + 2j, top + 3j], (84, 168, 96), False
        )


def _parasol(pen: Pen, x: float, colour: Colour) -> None:
    base = x + 1j * (HORIZON + 7)
    pen.polygon([base - 1.5, base + 1.5, base + 1.5 - 26j, base - 1.5 - 26j], (240, 236, 226), False)
    pen.polygon(
        [base - 19 - 22j, base - 11 - 31j, base - 34j, base + 11 - 31j, base + 19 - 22j], colour, False
    )


def _snow(pen: Pen, rng: np.random.Generator) -> None:
    _peaks(pen, rng, 62, (20, 38), (162, 184, 212), (232, 240, 248))
    _patches(pen, rng, (206, 220, 236))


def _moon(pen: Pen, rng: np.random.Generator) -> None:
    for x in _spread(rng, 21):
        star, size = x + 1j * rng.uniform(-40, HORIZON - 20), 1.6
        pen.polygon([star - size, star - 1j * size, star + size, star + 1j * size], (232, 232, 250), False)
    _peaks(pen, rng, 74, (9, 18), (128, 128, 142), None)
    for x in _spread(rng, 42):
        middle, wide = x + 1j * rng.uniform(HORIZON + 12, 122), rng.uniform(9, 15)
        pen.ellipse(middle, wide, wide / 3, (118, 118, 130), False)
        pen.ellipse(middle + 0.5 + 1.2j, wide - 2.5, wide / 3 - 1.4, (142, 142, 154), False)


def _forest(pen: Pen, rng: np.random.Generator) -> None:
    _band(pen, HORIZON - 8, HORIZON + 1, (112, 168, 128))
    for x in _spread(rng, 38):
        size, base = rng.uniform(0.85, 1.25), x + 1j * (HORIZON + rng.uniform(1, 6))
        green = ((62, 128, 80), (84, 146, 84))[int(rng.integers(2))]
        pen.polygon([base - 3, base + 3, base + 3 - 12j, base - 3 - 12j], (128, 90, 62), False)
        for low, wide in ((8, 16), (22, 12.5)):
            foot = base - 1j * low * size
            pen.polygon([foot - wide * size, foot - 22j * size, foot + wide * size], green, False)
    _patches(pen, rng, (112, 176, 92))


def _city(pen: Pen, rng: np.random.Generator) -> None:
    for x in _spread(rng, 36):
        high, half = rng.uniform(24, 58), rng.uniform(12, 17)
        colour = ((176, 140, 132), (150, 160, 178), (190, 176, 152))[int(rng.integers(3))]
        roof = HORIZON - high
        left, right = x - half, x + half
        pen.polygon(
            [left + 1j * HORIZON, left + 1j * roof, right + 1j * roof, right + 1j * HORIZON], colour, False
        )
        for y in np.arange(roof + 6, HORIZON - 8, 11):
            wide, corner = 2 * half - 10, x - half + 5 + 1j * y
            pen.polygon([corner, corner + wide, corner + wide + 5j, corner + 5j], (244, 232, 176), False)
    _band(pen, HORIZON, HORIZON + 7, (198, 196, 194))
    for x in np.arange(WIDTH[0] + rng.uniform(0, 36), WIDTH[1], 36):
        pen.polygon([x + 98j, x + 18 + 98j, x + 18 + 102j, x + 102j], (232, 228, 210), False)


def _desert(pen: Pen, rng: np.random.Generator) -> None:
    for x in _spread(rng, 96):
        up, half = rng.uniform(24, 42), rng.uniform(28, 40)
        tip, foot = x + 1j * (HORIZON - up), 1j * HORIZON
        pen.polygon([x - half + foot, tip, x + half + foot], (222, 164, 96), False)
        pen.polygon([x + half / 3 + foot, tip, x + half + foot], (190, 130, 76), False)
    for x in _spread(rng, 58):
        middle = x + 1j * rng.uniform(HORIZON + 14, 118)
        pen.polygon([middle - 24, middle - 8 - 5j, middle + 8 - 5j, middle + 24], (220, 150, 82), False)


_GROUNDS: dict[str, tuple[tuple, tuple, Callable[[Pen, np.random.Generator], None]]] = {
    "beach": (((118, 200, 250), (196, 232, 252)), ((248, 220, 160), (236, 196, 126)), _beach),
    "snow": (((166, 196, 226), (210, 224, 238)), ((246, 250, 254), (222, 232, 244)), _snow),
    "moon": (((44, 42, 86), (72, 66, 122)), ((164, 164, 176), (140, 140, 152)), _moon),
    "forest": (((176, 222, 236), (214, 238, 232)), ((140, 200, 108), (100, 166, 80)), _forest),
    "city": (((152, 176, 214), (214, 218, 226)), ((122, 124, 134), (104, 106, 116)), _city),
    "desert": (((250, 190, 110), (252, 226, 168)), ((236, 174, 104), (220, 146, 78)), _desert),
}

GROUNDS = tuple(_GROUNDS)
"""Grounds, in the order of the classifier's outputs."""
