"""Animated pictures (WebP, AVIF, APNG) and folders of pictures as clips, read by Pillow."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .source import UNKNOWN_FPS, VideoError, undecodable

ANIMATED = (".webp", ".avif", ".avifs", ".apng", ".png")
STILL = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
_UNTIMED = 0.1
"""Seconds of a frame that gives none, or one that no program honours (browsers take 0.1)."""


class Pictures:
    """A `Source` of ``starts``, the presentation times in seconds, and a function that decodes one picture."""

    def __init__(
        self, name: str, starts: list[float], end: float, decode: Callable[[int], np.ndarray]
    ) -> None:
        self.name = name
        self._starts = starts
        self._decode = decode
        self._close: Callable[[], None] = lambda: None
        first = decode(0)
        self.size = (first.shape[1], first.shape[0])
        self.frames = self.counted = len(starts)
        self.duration = end
        self.fps = Fraction(len(starts) / end).limit_denominator(1001) if end > 0 else UNKNOWN_FPS

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def times(self) -> list[float]:
        """See `Source.times`."""
        return self._starts

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, np.ndarray | None]]:
        """See `Source.pictures`."""
        chosen = wanted if isinstance(wanted, range) else set(wanted)
        for index, seconds in enumerate(self._starts[: wanted[-1] + 1]):
            yield index, seconds, self._decode(index) if index in chosen else None

    def nearest(self, seconds: Sequence[float]) -> list[np.ndarray]:
        """See `Source.nearest`."""
        starts = np.array(self._starts)
        return [self._decode(int(np.abs(starts - moment).argmin())) for moment in seconds]


def open_pictures(path: Path) -> Pictures | None:
    """The animated picture or the folder of pictures at ``path``; None for every other file.

    A still picture is not a clip. Raises VideoError for a folder without pictures, and for a damaged picture.
    """
    if os.path.isdir(path):
        return _folder(path)
    if path.suffix.lower() not in ANIMATED or not os.path.isfile(path):
        return None
    try:
        image = Image.open(path)
        if getattr(image, "n_frames", 1) < 2:
            image.close()
            raise VideoError(f"{path.name} is a single picture, not a clip: choose a video or an animation.")
        starts, end = _timing(image)
    except UnidentifiedImageError:
        # Pillow's own WebP and AVIF readers are optional; FFmpeg may know the file.
        return None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise undecodable(path.name) from error

    def decode(index: int) -> np.ndarray:
        try:
            image.seek(index)
            return _rgb(image)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise undecodable(path.name) from error

    pictures = Pictures(path.name, starts, end, decode)
    pictures._close = image.close
    return pictures


def _timing(image: Image.Image) -> tuple[list[float], float]:
    starts, now = [], 0.0
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(index)
        image.load()
        starts.append(now)
        seconds = float(image.info.get("duration") or 0) / 1000
        now += seconds if seconds >= 0.011 else _UNTIMED
    return starts, now


def _folder(path: Path) -> Pictures:
    files = sorted(
        (entry for entry in path.iterdir() if entry.suffix.lower() in STILL and entry.is_file()),
        key=_in_counting_order,
    )
    if not files:
        raise VideoError(f"The folder {path.name} holds no pictures: choose one with a numbered sequence.")

    def decode(index: int) -> np.ndarray:
        try:
            with Image.open(files[index]) as image:
                picture = _rgb(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise VideoError(
                f"{files[index].name} in {path.name} cannot be read as a picture: replace or remove it."
            ) from error
        return picture

    first = decode(0).shape

    def same_size(index: int) -> np.ndarray:
        picture = decode(index)
        if picture.shape != first:
            raise VideoError(
                f"{files[index].name} has {picture.shape[1]} x {picture.shape[0]} pixels and {files[0].name} "
                f"{first[1]} x {first[0]}: a clip needs pictures of one size."
            )
        return picture

    return Pictures(
        path.name,
        [float(index / UNKNOWN_FPS) for index in range(len(files))],
        float(len(files) / UNKNOWN_FPS),
        same_size,
    )


def _in_counting_order(path: Path) -> list[tuple[int, int, str]]:
    """So that frame_10 comes after frame_9."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, turned as the picture's EXIF says; white shows through where it is transparent."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("RGBA", "LA", "PA", "P"):
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return np.array(turned.convert("RGB"))
