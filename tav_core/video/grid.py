"""Captioned videos next to each other, as one video or as a contact sheet."""

import logging
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .fit import letterbox

Video = tuple[str, torch.Tensor]
Cell = tuple[int, int, torch.Tensor]

_GAP = 4
_PAPER = 242
_INK = 24
_SMALLEST_FONT, _LARGEST_FONT = 11, 32
# Looked for only where a caption has characters that Pillow's own font lacks (it has ASCII and little more).
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "PingFang.ttc",
)


def compare_frames(videos: Sequence[Video], columns: int | None = None) -> torch.Tensor:
    """One video that shows all of them, each under its caption, in rows of ``columns`` (default: one row).

    videos: (caption, frames (F, H, W, C >= 3) in 0..1). Every video takes the first one's size, with black
    bars where the aspect differs, and the shortest one ends the result. Captions are wrapped, never cut.

    Returns (F, H', W', 3) float32 with even H' and W', as video codecs want. Raises ValueError for no videos
    or frames of another shape.
    """
    clips = _aligned(videos)
    frames, height, width = clips[0].shape[:3]
    columns = min(columns or len(clips), len(clips))
    cells = []
    top = 0
    for first in range(0, len(clips), columns):
        row = range(first, min(first + columns, len(clips)))
        strips = [_caption_strip(videos[index][0], width, width) for index in row]
        tallest = max(len(strip) for strip in strips)
        cells += [(top, column * (width + _GAP), strip) for column, strip in enumerate(strips)]
        cells += [(top + tallest, column * (width + _GAP), clips[index]) for column, index in enumerate(row)]
        top += tallest + height + _GAP
    return _compose(cells, frames, top - _GAP, columns * (width + _GAP) - _GAP)


def contact_sheet(rows: Sequence[Video], columns: int = 6) -> torch.Tensor:
    """One picture: a row per video under its caption, with ``columns`` evenly spaced frames.

    rows: as in ``compare_frames``, with the same rules for size and length. The first and the last frame are
    among the chosen ones, and all rows show the same moments; a clip of fewer frames gives fewer columns.

    Returns (H', W', 3) float32 with even H' and W'. Raises ValueError like ``compare_frames``.
    """
    clips = _aligned(rows)
    frames, height, width = clips[0].shape[:3]
    moments = np.linspace(0, frames - 1, max(1, min(columns, frames))).round().astype(int)
    sheet_width = len(moments) * (width + _GAP) - _GAP
    cells = []
    top = 0
    for (caption, _), clip in zip(rows, clips, strict=True):
        strip = _caption_strip(caption, sheet_width, width)
        cells.append((top, 0, strip))
        top += len(strip)
        cells += [(top, column * (width + _GAP), clip[moment, None]) for column, moment in enumerate(moments)]
        top += height + _GAP
    return _compose(cells, 1, top - _GAP, sheet_width)[0]


def _aligned(videos: Sequence[Video]) -> list[torch.Tensor]:
    """The clips as (F, H, W, 3) float32 on the CPU, of the first one's size and the shortest one's length."""
    if not videos:
        raise ValueError("There are no videos to compare: give at least one.")
    for caption, clip in videos:
        if clip.ndim != 4 or clip.shape[-1] < 3 or 0 in clip.shape:
            shape = tuple(clip.shape)
            raise ValueError(f"The video {caption!r} must be (frames, height, width, 3), but it is {shape}.")
    frames = min(len(clip) for _, clip in videos)
    height, width = videos[0][1].shape[1:3]
    return [_resized(clip[:frames, ..., :3].to("cpu", torch.float32), width, height) for _, clip in videos]


def _resized(clip: torch.Tensor, width: int, height: int) -> torch.Tensor:
    if clip.shape[1:3] == (height, width):
        return clip
    fitted = [letterbox(np.ascontiguousarray(frame), width, height) for frame in clip.numpy()]
    return torch.from_numpy(np.stack(fitted))


def _compose(cells: list[Cell], frames: int, height: int, width: int) -> torch.Tensor:
    """Lays (top, left, picture (H, W, 3) or clip (F, H, W, 3)) on paper of the next even size."""
    shape = (frames, height + height % 2, width + width % 2, 3)
    canvas = torch.full(shape, _PAPER / 255, dtype=torch.float32)
    for top, left, picture in cells:
        cell_height, cell_width = picture.shape[-3:-1]
        canvas[:, top : top + cell_height, left : left + cell_width] = picture.clamp(0, 1)
    return canvas


def _caption_strip(caption: str, width: int, frame_width: int) -> torch.Tensor:
    """(H, width, 3) float32: dark text on a light strip, as high as the wrapped caption; 0 high for none."""
    size = min(_LARGEST_FONT, max(_SMALLEST_FONT, frame_width // 18))
    characters = "".join(sorted(character for character in set(caption) if not character.isspace()))
    font = _font(size, characters)
    lacking = _lacking(font, characters)
    if lacking:
        logging.getLogger(__name__).warning("no font found has %s; captions go without", "".join(lacking))
    for character in lacking:
        # "a" reads better than an empty box for "ä".
        caption = caption.replace(character, _without_accents(character))
    margin = max(2, size // 4)
    lines = wrap(caption, width - 2 * margin, font)
    if not lines:
        return torch.zeros((0, width, 3))
    ascent, descent = font.getmetrics()
    line_height = ascent + descent
    height = 2 * margin + line_height * len(lines)
    strip = Image.new("L", (width, height + height % 2), _PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * line_height), line, fill=_INK, font=font)
    grey = torch.from_numpy(np.asarray(strip, np.float32) / 255)
    return grey[..., None].expand(-1, -1, 3)


def wrap(text: str, width: float, font: ImageFont.FreeTypeFont) -> list[str]:
    """Breaks text into lines of at most ``width`` pixels: at spaces, or inside a word wider than that.

    Line breaks in the text stay; blank lines and runs of spaces are dropped.
    """
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            candidate = f"{line} {word}" if line else word
            if font.getlength(candidate) <= width:
                line = candidate
                continue
            if line:
                lines.append(line)
            *full, line = _split_word(word, width, font)
            lines += full
        if line:
            lines.append(line)
    return lines


def _split_word(word: str, width: float, font: ImageFont.FreeTypeFont) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and font.getlength(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


@lru_cache(maxsize=64)
def _font(size: int, characters: str) -> ImageFont.FreeTypeFont:
    """Pillow's own font; where it lacks characters, the common system font that lacks the fewest."""
    best = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    lacking = len(_lacking(best, characters))
    for name in _SYSTEM_FONTS:
        if not lacking:
            break
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        if len(_lacking(font, characters)) < lacking:
            best, lacking = font, len(_lacking(font, characters))
    return best


def _lacking(font: ImageFont.FreeTypeFont, characters: str) -> list[str]:
    missing = bytes(font.getmask("\uffff"))
    return [character for character in characters if bytes(font.getmask(character)) == missing]


def _without_accents(character: str) -> str:
    base = unicodedata.normalize("NFKD", character)
    return "".join(part for part in base if not unicodedata.combining(part))
