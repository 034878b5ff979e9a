"""The heads of the figures. The head's own coordinates start at its middle, y down."""

from __future__ import annotations

from collections.abc import Callable

from .canvas import INK, Colour, Pen

Drawing = Callable[[Pen], None]

_SKIN, _WHITE, _BLACK, _BONE = (244, 196, 156), (246, 246, 250), (46, 44, 56), (240, 234, 208)


def _eyes(
    pen: Pen, colour: Colour = INK, apart: float = 5.0, height: float = 0.0, radius: float = 2.0
) -> None:
    # A figure looks to the side that it faces: its eyes are off the middle.
    for side in (-1, 1):
        pen.ellipse(2 + side * apart + 1j * height, radius, radius, colour, False)


def man(cap: Colour | None) -> Drawing:
    """Return a head with short brown hair, or with a cap of the given colour."""

    def drawing(pen: Pen) -> None:
        hair = (96, 56, 32)
        pen.ellipse(-1 - 2.5j, 14, 13, hair)
        pen.ellipse(1 + 2.5j, 12, 11, _SKIN, False)
        if cap:
            pen.polygon([-14 - 4j, -12 - 13j, -4 - 18j, 6 - 17j, 13 - 9j, 13 - 4j], cap)
            pen.polygon([4 - 7j, 22 - 6j, 22 - 2j, 4 - 3j], cap)
        _eyes(pen, height=2.5)
        pen.line([-2 + 8.5j, 2 + 9.5j, 6 + 8.5j], 1.6)

    return drawing


def woman(hair: Colour) -> Drawing:
    """Return a head with long hair."""

    def drawing(pen: Pen) -> None:
        pen.polygon([-14 - 2j, -17 + 18j, -5 + 18j, 5 + 18j, 17 + 18j, 14 - 2j], hair)
        pen.ellipse(-2j, 15, 13.5, hair)
        pen.polygon([-13 - 2j, -15.5 + 16.5j, 15.5 + 16.5j, 13 - 2j], hair, False)
        pen.ellipse(1 + 2.5j, 10.5, 10.5, _SKIN, False)
        _eyes(pen, height=1.5)
        pen.ellipse(2 + 8.5j, 3, 1.6, (204, 40, 60), False)

    return drawing


def robot(plate: Colour, two: bool) -> Drawing:
    """Return a square head with yellow eyes and one or two antennas."""

    def drawing(pen: Pen) -> None:
        for x in (-8, 8) if two else (0,):
            pen.capsule(x - 13j, x - 20j, 1.4, INK)
            pen.ellipse(x - 21j, 3.6, 3.6, (236, 60, 52))
        pen.polygon([-14 - 12j, 14 - 12j, 14 + 13j, -14 + 13j], plate)
        pen.polygon([-11 - 7j, 12 - 7j, 12 + 3j, -11 + 3j], (44, 48, 60), False)
        _eyes(pen, (255, 226, 70), 5.5, -2, 3.2)
        pen.polygon([-6 + 7j, 9 + 7j, 9 + 10j, -6 + 10j], (44, 48, 60), False)

    return drawing


def astronaut(visor: Colour) -> Drawing:
    """Return a white helmet with a wide visor."""

    def drawing(pen: Pen) -> None:
        pen.ellipse(0, 15.5, 15, _WHITE)
        pen.ellipse(2 + 0.5j, 11.5, 9, visor)
        pen.ellipse(-2 - 3j, 3, 2, _WHITE, False)

    return drawing


def panda(band: Colour | None) -> Drawing:
    """Return a white head with black ears and eye patches, maybe with a hat."""

    def drawing(pen: Pen) -> None:
        for side in (-1, 1):
            pen.ellipse(side * 11.5 - 11j, 6, 6, _BLACK)
        pen.ellipse(0, 16, 13.5, _WHITE)
        for side in (-1, 1):
            pen.ellipse(1.5 + side * 6.5 - 0.5j, 4, 4.6, _BLACK, False)
            pen.ellipse(2 + side * 6 - 1j, 1.5, 1.5, _WHITE, False)
        pen.ellipse(2 + 6j, 2.8, 2, INK, False)
        if band:
            pen.polygon([-8 - 12j, 8 - 12j, 6 - 22j, -6 - 22j], band)
            pen.polygon([-12 - 13j, 12 - 13j, 12 - 9.5j, -12 - 9.5j], band)

    return drawing


def skeleton(hat: Colour | None) -> Drawing:
    """Return a skull, maybe under a pirate's hat."""

    def drawing(pen: Pen) -> None:
        pen.polygon([-7 + 6j, 7 + 6j, 6 + 14j, -6 + 14j], _BONE)
        pen.ellipse(-2j, 14, 12.5, _BONE)
        pen.polygon([-6 + 7j, 6 + 7j, 5.5 + 12j, -5.5 + 12j], _BONE, False)
        _eyes(pen, apart=5.5, height=-1, radius=4.0)
        for x in (-2, 2):
            pen.line([x + 9j, x + 13j], 1.3)
        if hat:
            pen.polygon([-19 - 9j, -9 - 14j, -6 - 21j, 6 - 21j, 9 - 14j, 19 - 9j], hat)

    return drawing


def snowman(hat: Colour, bucket: bool) -> Drawing:
    """Return a ball of snow with a carrot, under a top hat or a bucket."""

    def drawing(pen: Pen) -> None:
        pen.ellipse(1j, 13, 12, (248, 250, 255))
        if bucket:
            pen.polygon([-11 - 9j, 11 - 9j, 7 - 22j, -7 - 22j], hat)
        else:
            pen.polygon([-9 - 9j, 9 - 9j, 9 - 23j, -9 - 23j], hat)
            pen.polygon([-15 - 11j, 15 - 11j, 15 - 8j, -15 - 8j], hat)
        _eyes(pen, height=-1)
        pen.polygon([3 + 2j, 3 + 7j, 20 + 6j], (248, 130, 30))

    return drawing


def knight(plume: Colour | None) -> Drawing:
    """Return a helmet with a slit, maybe with a plume."""

    def drawing(pen: Pen) -> None:
        if plume:
            pen.polygon([-2 - 12j, -6 - 23j, -17 - 21j, -21 - 8j, -13 - 6j], plume)
        metal = (190, 196, 208)
        pen.polygon([-13 - 4j, -10 - 12j, 0 - 15j, 10 - 12j, 14 - 4j, 13 + 13j, -12 + 13j], metal)
        pen.polygon([-9 - 4j, 15 - 4j, 15 + 1j, -9 + 1j], INK, False)
        for x in (3, 8):
            pen.line([x + 5j, x + 10j], 1.6)

    return drawing


def dinosaur(skin: Colour, spikes: Colour) -> Drawing:
    """Return a head with a long snout and spikes."""

    def drawing(pen: Pen) -> None:
        for root in (-4 - 13j, -12 - 7j, -14 + 3j):
            pen.polygon([root + 4j, root + 5 - 1j, root - 6 - 5j], spikes)
        pen.ellipse(13 + 4j, 11, 7.5, skin)
        pen.ellipse(-1j, 13.5, 13, skin)
        pen.ellipse(11 + 4j, 10, 7, skin, False)
        pen.ellipse(4 - 5j, 4.4, 4.4, _WHITE, False)
        pen.ellipse(5.5 - 5j, 2.2, 2.2, INK, False)
        pen.line([9 + 7.5j, 22 + 6j], 1.6)

    return drawing


def witch(hat: Colour, trim: Colour, skin: Colour, crooked: bool) -> Drawing:
    """Return a green face under a pointed hat."""

    def drawing(pen: Pen) -> None:
        pen.polygon([-12 - 3j, -15 + 14j, 15 + 14j, 12 - 3j], (228, 108, 40))
        pen.ellipse(1 + 2j, 11.5, 11.5, skin)
        tip = 14 - 30j if crooked else -31j
        pen.polygon([-11 - 7j, tip, 11 - 7j], hat)
        pen.polygon([-10 - 11j, 10 - 11j, 11 - 7j, -11 - 7j], trim, False)
        pen.polygon([-19 - 8j, 19 - 8j, 19 - 4j, -19 - 4j], hat)
        _eyes(pen, height=2)
        pen.polygon([3 + 3j, 3 + 7j, 11 + 7j], skin)

    return drawing
