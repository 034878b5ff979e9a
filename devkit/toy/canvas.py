"""A canvas for flat shapes, three times as fine as the picture, that also notes which part covers each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 128
"""Side of every picture, in pixels."""

FINE = 3
"""Canvas pixels per picture pixel; scaled down by area, that smooths every edge."""

INK = (26, 24, 34)
"""Colour of every outline, RGB."""

STROKE = 1.5
"""Width of an outline in pixels, at size 1."""

_SHIFT = 4
_TURN = np.exp(2j * np.pi * np.arange(28) / 28)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Similarity:
    """A map of the plane: z -> a z + b, or a conj(z) + b with `flip`. Points are complex, y down."""

    a: complex = 1
    b: complex = 0
    flip: bool = False

    def __call__(self, points: np.ndarray | complex) -> np.ndarray | complex:
        """Return where the points go."""
        return self.a * (np.conj(points) if self.flip else points) + self.b

    def after(self, first: Similarity) -> Similarity:
        """Return the map that applies `first`, then this one."""
        inner = np.conj(first.a) if self.flip else first.a
        return Similarity(self.a * inner, self(first.b), self.flip != first.flip)

    def inverse(self) -> Similarity:
        """Return the map back."""
        a, b = 1 / self.a, -self.b / self.a
        return Similarity(np.conj(a), np.conj(b), True) if self.flip else Similarity(a, b)


class Canvas:
    """Shapes drawn over each other; `picture` and `parts` read the result."""

    def __init__(self) -> None:
        self._fine = np.zeros((SIDE * FINE, SIDE * FINE, 4), np.uint8)

    def rows(self, colours: np.ndarray) -> None:
        """Fill the canvas with one colour per canvas row, (384, 3), as part 0."""
        self._fine[:] = np.pad(colours, ((0, 0), (0, 1)))[:, None]

    def fill(self, points: np.ndarray, colour: Colour, part: int) -> None:
        """Fill a polygon of complex points in picture pixels."""
        corners = _fixed(points)
        left, right = corners[:, 0].min(), corners[:, 0].max()
        if right >= 0 and left < SIDE * FINE << _SHIFT:
            cv2.fillPoly(self._fine, [corners], (*colour, part), cv2.LINE_8, _SHIFT)

    def stroke(self, points: np.ndarray, width: float, part: int, closed: bool = True) -> None:
        """Draw a line in ink, `width` pixels wide, along complex points in picture pixels."""
        thickness = max(1, round(width * FINE))
        cv2.polylines(self._fine, [_fixed(points)], closed, (*INK, part), thickness, cv2.LINE_8, _SHIFT)

    def picture(self) -> np.ndarray:
        """Return the picture, uint8 RGB (128, 128, 3)."""
        small = cv2.resize(self._fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(small[..., :3])

    def parts(self) -> np.ndarray:
        """Return the number of the part that covers each pixel's centre, uint8 (128, 128)."""
        return self._fine[FINE // 2 :: FINE, FINE // 2 :: FINE, 3].copy()


class Pen:
    """Draws one part's shapes, given in the part's own coordinates."""

    def __init__(self, canvas: Canvas, place: Similarity, part: int) -> None:
        self.canvas, self.place, self.part = canvas, place, part
        self._scale = abs(place.a)

    def capsule(
        self, start: complex, end: complex, radius: float, colour: Colour, end_radius: float = 0
    ) -> None:
        """Draw an outlined stroke with round ends; `end_radius` differs in a tapering one."""
        last = end_radius or radius
        self._capsule(start, end, radius + STROKE, last + STROKE, INK)
        self._capsule(start, end, radius, last, colour)

    def ellipse(self, centre: complex, rx: float, ry: float, colour: Colour, outlined: bool = True) -> None:
        """Draw an ellipse with the given half axes."""
        if outlined:
            self.canvas.fill(self.place(_ellipse(centre, rx + STROKE, ry + STROKE)), INK, self.part)
        self.canvas.fill(self.place(_ellipse(centre, rx, ry)), colour, self.part)

    def polygon(self, points: list[complex], colour: Colour, outlined: bool = True) -> None:
        """Draw a polygon; its outline lies half inside."""
        there = self.place(np.array(points))
        if outlined:
            self.canvas.stroke(there, 2 * STROKE * self._scale, self.part)
        self.canvas.fill(there, colour, self.part)

    def line(self, points: list[complex], width: float) -> None:
        """Draw an open line in ink."""
        self.canvas.stroke(self.place(np.array(points)), width * self._scale, self.part, closed=False)

    def _capsule(self, start: complex, end: complex, first: float, last: float, colour: Colour) -> None:
        way = (end - start) / abs(end - start)
        half = np.concatenate([_TURN[7:22] * first * way + start, _TURN[21:] * last * way + end])
        half = np.concatenate([half, _TURN[:8] * last * way + end])
        self.canvas.fill(self.place(half), colour, self.part)


def _ellipse(centre: complex, rx: float, ry: float) -> np.ndarray:
    return centre + _TURN.real * rx + 1j * _TURN.imag * ry


def _fixed(points: np.ndarray) -> np.ndarray:
    both = np.ascontiguousarray(points, np.complex128).view(np.float64).reshape(-1, 2)
    return np.rint((both * FINE - 0.5) * 2**_SHIFT).astype(np.int32)
