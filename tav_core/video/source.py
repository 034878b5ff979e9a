"""Clips that frames can be read from: video files, animated pictures, and folders of pictures."""

import codecs
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

_HEAD_BYTES = 512
UNKNOWN_FPS = Fraction(25)
PLAUSIBLE_FPS = 1000


class VideoError(ValueError):
    """A clip that cannot be read as asked; the message is one sentence that names the file and the remedy."""


class Source(Protocol):
    """A clip that is open for reading.

    name: for messages. size: (width, height) in square pixels, after rotation. fps: the nominal rate. frames: how
    many pictures the header promises, 0 if it does not say. duration: seconds that the header promises, 0 likewise.
    counted: how many there are, 0 while that is not known.
    """

    name: str
    size: tuple[int, int]
    fps: Fraction
    frames: int
    duration: float
    counted: int

    def times(self) -> list[float]:
        """The presentation time of every picture in seconds, ascending."""

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, np.ndarray | None]]:
        """Goes through the clip up to the last of the ``wanted`` numbers, which ascend and may repeat.

        Yields (number, presentation time in seconds, picture); the picture is (H, W, 3) uint8 RGB for a number that
        is wanted and None for a frame that is only passed. Numbers may be left out, and come once more after a first
        attempt that failed. Ends early where the clip does.
        """

    def nearest(self, seconds: Sequence[float]) -> list[np.ndarray]:
        """Quickly, one picture near each of the times, which count from the beginning of the clip."""


def check_file(path: Path) -> None:
    """Raises VideoError unless ``path`` is a file with content that is not plain text."""
    # Path.is_file raises for a name longer than file systems take.
    if not os.path.isfile(path):
        name = (path.name or str(path))[:90]
        name = name if name.isprintable() else f"{name!r:.90}"
        raise VideoError(f"{name} does not exist or is not a file: choose or upload another video.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise VideoError(f"{path.name} cannot be opened: check the file's permissions.") from error
    if not head:
        raise VideoError(f"{path.name} is empty (0 bytes): copy or upload the video again.")
    # Refused here, because FFmpeg would take a playlist for a video and open the other files that it names.
    if _is_text(head):
        raise VideoError(f"{path.name} is a text file, not a video: choose a video file such as an mp4.")


def undecodable(name: str) -> VideoError:
    """The error for a clip of which no frame can be decoded."""
    return VideoError(
        f"No frame of {name} can be decoded: check that it plays, and save it again as mp4 (H.264)."
    )


def _is_text(head: bytes) -> bool:
    try:
        # Incremental: a character cut at the end of the head is no error.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
