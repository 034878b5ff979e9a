"""The figures: what hangs on the skeleton. Each comes in eight looks that no caption names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import heads
from .canvas import INK, Canvas, Colour, Pen, Similarity
from .skeleton import FORE, PARTS, SHIN, THIGH, TORSO, UPPER, Rig

LOOKS = 8
"""Looks of every figure: four colours, each with and without something worn."""

BLUE, RED, GREEN, YELLOW = (44, 96, 220), (218, 48, 48), (40, 168, 84), (248, 196, 40)
PURPLE, PINK, ORANGE, WHITE = (150, 70, 200), (248, 120, 176), (244, 132, 36), (246, 246, 250)
SKIN, BLACK, STEEL, BONE = (244, 196, 156), (46, 44, 56), (160, 166, 178), (240, 234, 208)
NAVY, BROWN = (48, 60, 104), (120, 76, 44)

Drawing = Callable[[Pen], None]


def _nothing(_pen: Pen) -> None:
    pass


@dataclass(frozen=True)
class Costume:
    """Colours of the limbs, (upper, lower, end), and what draws torso, head and things carried.

    `held` is drawn by the right fore arm's pen, `behind` by the torso's before all limbs.
    """

    arm: tuple[Colour, Colour, Colour]
    leg: tuple[Colour, Colour, Colour]
    torso: Drawing
    head: Drawing
    behind: Drawing = _nothing
    held: Drawing = _nothing
    widths: tuple[float, float] = field(default=(4.3, 5.0))


def draw(canvas: Canvas, rig: Rig, place: Similarity, name: str, look: int, first_part: int) -> None:
    """Draw a figure; its parts get the numbers from `first_part` on, in the order of `PARTS`.

    Raises ValueError for an unknown figure or look.
    """
    if name not in _COSTUMES or not 0 <= look < LOOKS:
        raise ValueError(f"no figure {name!r} with look {look}; known: {', '.join(_COSTUMES)}")
    costume = _COSTUMES[name](look % 4, look >= 4)
    pens = {
        part: Pen(canvas, place.after(rig.frames[part]), first_part + index)
        for index, part in enumerate(PARTS)
    }
    costume.behind(pens["torso"])
    for part in PARTS:
        if part == "torso":
            costume.torso(pens[part])
        elif part == "head":
            costume.head(pens[part])
        else:
            _limb(pens[part], part, costume)
    costume.held(pens["right fore arm"])


def _limb(pen: Pen, part: str, costume: Costume) -> None:
    arm, leg = costume.widths
    if part.endswith("upper arm"):
        pen.capsule(0, UPPER, arm, costume.arm[0])
    elif part.endswith("fore arm"):
        pen.capsule(0, FORE - 1, arm, costume.arm[1])
        pen.ellipse(FORE, arm + 0.6, arm + 0.6, costume.arm[2])
    elif part.endswith("thigh"):
        pen.capsule(0, THIGH, leg, costume.leg[0])
    else:
        pen.capsule(0, SHIN - 2, leg, costume.leg[1])
        # A foot points ahead: a little to the side that the figure faces.
        pen.ellipse(SHIN + 1.0 - 2.2j, leg - 0.2, leg + 2.4, costume.leg[2])


def _shirt(colour: Colour, stripe: Colour | None = None, top: float = 10.0, waist: float = 9.0) -> Drawing:
    def drawing(pen: Pen) -> None:
        trunk = [-top + 3 - 1j * TORSO, top - 3 - 1j * TORSO, top - 1j * (TORSO - 4)]
        pen.polygon([*trunk, waist + 3j, -waist + 3j, -top - 1j * (TORSO - 4)], colour)
        if stripe:
            for height in (7, 17):
                band = [-top + 1.2 - 1j * (height + 4), top - 1.2 - 1j * (height + 4)]
                pen.polygon([*band, top - 1.2 - 1j * height, -top + 1.2 - 1j * height], stripe, False)

    return drawing


def _man(colour: int, worn: bool) -> Costume:
    shirt = (BLUE, RED, GREEN, YELLOW)[colour]
    stripe = WHITE if colour % 2 else None
    head = heads.man(shirt if worn else None)
    return Costume((shirt, SKIN, SKIN), (NAVY, NAVY, BLACK), _shirt(shirt, stripe), head)


def _woman(colour: int, worn: bool) -> Costume:
    dress = (RED, PURPLE, (32, 176, 176), PINK)[colour]

    def torso(pen: Pen) -> None:
        waist = [-5 - 1j * TORSO, 5 - 1j * TORSO, 8.5 - 1j * (TORSO - 4), 6 - 11j, 17 + 9j]
        pen.polygon([*waist, -17 + 9j, -6 - 11j, -8.5 - 1j * (TORSO - 4)], dress)
        if colour % 2:
            pen.polygon([15 + 5j, 17 + 9j, -17 + 9j, -15 + 5j], WHITE, False)

    hair = (108, 60, 36) if worn else (250, 204, 72)
    return Costume((SKIN, SKIN, SKIN), (SKIN, SKIN, dress), torso, heads.woman(hair), widths=(4.0, 4.6))


def _robot(colour: int, worn: bool) -> Costume:
    plate = (STEEL, (226, 138, 66), (72, 170, 190), (236, 204, 80))[colour]

    def torso(pen: Pen) -> None:
        pen.polygon([-13 - 28j, 13 - 28j, 13 + 3j, -13 + 3j], plate)
        pen.polygon([-8 - 23j, 8 - 23j, 8 - 11j, -8 - 11j], (36, 60, 66), False)
        pen.polygon([-6 - 21j, 6 - 21j, 6 - 13j, -6 - 13j], (80, 236, 110), False)

    limb = (128, 134, 148)
    return Costume((limb, limb, BLACK), (limb, limb, BLACK), torso, heads.robot(plate, worn))


def _astronaut(colour: int, worn: bool) -> Costume:
    mark = (RED, BLUE, ORANGE, GREEN)[colour]

    def torso(pen: Pen) -> None:
        _shirt(WHITE, None, 11.5, 11)(pen)
        pen.polygon([-7 - 20j, 7 - 20j, 7 - 10j, -7 - 10j], mark, False)
        pen.polygon([-10 - 4j, 10 - 4j, 10 + 0.5j, -10 + 0.5j], mark, False)

    def behind(pen: Pen) -> None:
        pen.polygon([-17 - 28j, 17 - 28j, 17 - 2j, -17 - 2j], STEEL)

    head = heads.astronaut((250, 176, 40) if worn else (36, 80, 160))
    return Costume((WHITE, WHITE, mark), (WHITE, WHITE, mark), torso, head, behind, widths=(5.2, 5.8))


def _panda(colour: int, worn: bool) -> Costume:
    scarf = (RED, BLUE, YELLOW, GREEN)[colour]

    def torso(pen: Pen) -> None:
        pen.ellipse(-11j, 13.5, 16, WHITE)
        # The scarf ends on the chest.
        pen.polygon([-10 - 27j, 10 - 27j, 9 - 20j, -9 - 20j], scarf)
        pen.polygon([1 - 21j, 8 - 21j, 8 - 7j, 1 - 7j], scarf)

    head = heads.panda(scarf if worn else None)
    return Costume((BLACK, BLACK, BLACK), (BLACK, BLACK, BLACK), torso, head, widths=(5.4, 6.2))


def _skeleton(colour: int, worn: bool) -> Costume:
    belt = (RED, BLUE, GREEN, PURPLE)[colour]

    def torso(pen: Pen) -> None:
        pen.capsule(-24j, -2j, 3.4, BONE)
        for height, half in ((22, 10), (14.5, 8.5)):
            pen.capsule(-half - 1j * height, half - 1j * height, 2.6, BONE)
        pen.polygon([-9 - 6j, 9 - 6j, 10 + 5j, -10 + 5j], belt)

    limbs = (BONE, BONE, BONE)
    return Costume(limbs, limbs, torso, heads.skeleton(belt if worn else None), widths=(3.4, 3.6))


def _snowman(colour: int, worn: bool) -> Costume:
    scarf = (RED, GREEN, BLUE, ORANGE)[colour]
    snow = (248, 250, 255)

    def torso(pen: Pen) -> None:
        pen.ellipse(-4j, 18, 15, snow)
        pen.ellipse(-20j, 13, 11, snow)
        for height in (-1, -9, -17):
            pen.ellipse(1j * height, 1.9, 1.9, INK, False)
        pen.polygon([-11 - 30j, 11 - 30j, 12 - 23j, -12 - 23j], scarf)
        pen.polygon([-11 - 24j, -4 - 24j, -5 - 11j, -12 - 11j], scarf)

    stick = (134, 88, 52)
    head = heads.snowman(scarf if worn else BLACK, worn)
    return Costume((stick, stick, scarf), (snow, snow, BLACK), torso, head, widths=(3.2, 5.6))


def _knight(colour: int, worn: bool) -> Costume:
    coat = (RED, BLUE, PURPLE, YELLOW)[colour]
    metal, dark = (190, 196, 208), (134, 140, 156)

    def torso(pen: Pen) -> None:
        _shirt(coat, None, 11, 11)(pen)
        pen.polygon([-11 + 2j, 11 + 2j, 13 + 9j, -13 + 9j], coat)
        pen.polygon([-2.4 - 26j, 2.4 - 26j, 2.4 + 7j, -2.4 + 7j], WHITE, False)

    def held(pen: Pen) -> None:
        # The hand's own coordinates run along the arm: the shield's tip points outwards.
        pen.polygon([2 - 13j, 2 + 13j, 16 + 13j, 27, 16 - 13j], coat)
        pen.polygon([5 - 2.5j, 5 + 2.5j, 22 + 2.5j, 22 - 2.5j], WHITE, False)
        pen.polygon([8 - 9j, 8 + 9j, 13 + 9j, 13 - 9j], WHITE, False)

    head = heads.knight(coat if worn else None)
    return Costume((metal, metal, dark), (dark, metal, dark), torso, head, held=held, widths=(4.8, 5.4))


def _dinosaur(colour: int, worn: bool) -> Costume:
    skin = ((70, 180, 70), (28, 150, 140), (158, 190, 48), (36, 116, 62))[colour]
    spikes = RED if worn else YELLOW
    belly = (236, 232, 168)

    def torso(pen: Pen) -> None:
        pen.ellipse(-11j, 14, 17, skin)
        pen.ellipse(3 - 9j, 8.5, 12.5, belly, False)

    def behind(pen: Pen) -> None:
        for root in (-15 - 18j, -20 - 7j, -28 + 2j):
            pen.polygon([root, root + 9j + 4, root - 7 + 2j], spikes)
        pen.polygon([-4 - 16j, -20 - 4j, -40 + 8j, -20 + 9j, -2 + 4j], skin)

    head = heads.dinosaur(skin, spikes)
    return Costume((skin, skin, skin), (skin, skin, skin), torso, head, behind, widths=(4.4, 6.4))


def _witch(colour: int, worn: bool) -> Costume:
    trim = (ORANGE, PINK, YELLOW, (120, 220, 90))[colour]
    robe, skin = (84, 52, 128), (150, 200, 100)

    def torso(pen: Pen) -> None:
        waist = [-6 - 1j * TORSO, 6 - 1j * TORSO, 9 - 1j * (TORSO - 4), 7 - 8j, 19 + 16j]
        pen.polygon([*waist, -19 + 16j, -7 - 8j, -9 - 1j * (TORSO - 4)], robe)
        pen.polygon([-7.5 - 10j, 7.5 - 10j, 8 - 5j, -8 - 5j], trim, False)

    head = heads.witch(robe, trim, skin, worn)
    return Costume((robe, robe, skin), (skin, skin, BLACK), torso, head, widths=(4.6, 4.8))


_COSTUMES: dict[str, Callable[[int, bool], Costume]] = {
    "man": _man,
    "woman": _woman,
    "robot": _robot,
    "astronaut": _astronaut,
    "panda": _panda,
    "skeleton": _skeleton,
    "snowman": _snowman,
    "knight": _knight,
    "dinosaur": _dinosaur,
    "witch": _witch,
}

NEW_FIGURE = "witch"
"""The figure that only the DreamBooth variant knows."""

FIGURES = tuple(name for name in _COSTUMES if name != NEW_FIGURE)
"""Figures of the base checkpoint, in the order of the classifier's outputs."""
