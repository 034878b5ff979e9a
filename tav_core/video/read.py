"""Choosing the frames of one clip, and reading them."""

import bisect
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from .fit import fit_frame, target_size
from .pictures import open_pictures
from .source import PLAUSIBLE_FPS, UNKNOWN_FPS, Source, VideoError, check_file, undecodable
from .video_file import VideoFile

Clip = str | Path | BinaryIO
"""What frames can be read from: a video, an animated picture, a folder of pictures, a video's bytes."""


@dataclass(frozen=True)
class VideoInfo:
    """What a clip really holds.

    frames: pictures that decode, counted; fps: average pictures per second; width, height: in square pixels,
    after rotation; duration: seconds; variable: whether the pictures are unevenly spaced in time.
    """

    frames: int
    fps: Fraction
    width: int
    height: int
    duration: float
    variable: bool


@dataclass(frozen=True)
class Selection:
    """Which frames were taken.

    indices: the clip's own frame numbers, from 0; seconds: their presentation times; fps: the rate at which the taken
    frames play at the clip's pace;
    source_width, source_height: the clip's size in square pixels, after rotation.
    """

    indices: tuple[int, ...]
    seconds: tuple[float, ...]
    fps: Fraction
    source_width: int
    source_height: int

    @property
    def duration(self) -> float:
        """Seconds that the taken frames play."""
        return float(len(self.indices) / self.fps)


def largest_count(total: int, start: int, step: int) -> int:
    """How many frames start, start + step, start + 2 step, ... exist among ``total`` frames."""
    return max(0, -(-(total - start) // step))


def resampled_count(times: Sequence[float], fps: Fraction | float) -> int:
    """How many frames a clip has at a constant rate; the last one falls where the clip's last frame begins.

    times: ascending presentation times in seconds, one per frame.
    """
    return int((times[-1] - times[0] + _slack(fps)) * float(fps)) + 1


def resample_indices(times: Sequence[float], fps: Fraction | float, wanted: Iterable[int]) -> list[int]:
    """For each wanted frame of the clip at a constant rate, the number of the clip's own frame that it shows.

    Frame k at ``fps`` shows what is on screen k / fps seconds after the first frame: the last one begun by
    then. times: as in ``resampled_count``.
    """
    due = (times[0] + number / float(fps) + _slack(fps) for number in wanted)
    return [bisect.bisect_right(times, seconds) - 1 for seconds in due]


def _slack(fps: Fraction | float) -> float:
    """Containers round timestamps (Matroska: to 1 ms); a frame due "now" must not come one frame late."""
    return min(0.0015, 0.1 / float(fps))


def open_source(clip: Clip, trim: tuple[float, float] = (0.0, 0.0)) -> AbstractContextManager[Source]:
    """Opens a video file, an animated picture, a folder of pictures or a stream of a video file's bytes.

    ``trim`` is (start, duration) in seconds on the file's own clock, as core's VIDEO counts; a duration of 0 goes to
    the end. Raises VideoError for what is missing, empty or not a clip.
    """
    if not isinstance(clip, str | Path):
        return VideoFile(clip, "The video", trim)
    path = Path(clip)
    pictures = open_pictures(path) if os.path.isdir(path) or trim == (0.0, 0.0) else None
    if pictures is not None:
        return pictures
    check_file(path)
    return VideoFile(path, path.name, trim)


def probe(clip: Clip) -> VideoInfo:
    """Counts and measures a clip by going through all of it. Raises VideoError if nothing in it decodes."""
    with open_source(clip) as source:
        times = source.times()
        fps = _average_fps(len(times) - 1, times[-1] - times[0], source.fps)
        return VideoInfo(len(times), fps, *source.size, float(len(times) / fps), _is_variable(times))


def glance(clip: Clip, trim: tuple[float, float] = (0.0, 0.0)) -> VideoInfo:
    """What a clip's header says of it; quick, and wrong where the header is.

    ``frames`` is 0 where the header does not say; ``variable`` is not known and False. Raises VideoError for what
    is not a video.
    """
    with open_source(clip, trim) as source:
        return VideoInfo(source.frames, source.fps, *source.size, source.duration, variable=False)


def check_readable(clip: Clip) -> None:
    """Raises VideoError unless at least the clip's first frame can be decoded."""
    with open_source(clip):
        pass


def strip(clip: Clip, count: int, size: tuple[int, int]) -> torch.Tensor:
    """About ``count`` pictures (N, H, W, 3) spread over a clip, quickly: the nearest that a seek finds.

    ``size`` is (width, height) in pixels. Raises VideoError for what is not a video.
    """
    with open_source(clip) as source:
        number = max(1, min(count, source.frames or count))
        moments = [source.duration * index / number for index in range(number)]
        pictures = source.nearest(moments)
        if not pictures:
            raise undecodable(source.name)
        return _as_tensor([fit_frame(picture, size) for picture in pictures])


def read_frames(
    clip: Clip,
    start: int = 0,
    step: int = 1,
    count: int = 24,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    fps: Fraction | float | None = None,
    progress: Callable[[int, int], None] | None = None,
    trim: tuple[float, float] = (0.0, 0.0),
) -> tuple[torch.Tensor, Selection]:
    """Reads ``count`` frames of a clip: numbers start, start + step, start + 2 step, ...

    The numbers count the clip's own frames as they are stored. With ``fps``, the clip is first brought to
    that constant rate by its timestamps (see ``resample_indices``), and the numbers count the frames of the
    result: the way to get an even pace out of a clip of variable frame rate.

    Nothing behind the last chosen frame is decoded, and each frame is fitted as it comes. Rotation, pixel aspect and
    the colour space's tags are applied, interlaced frames are deinterlaced, HDR is tone-mapped; transparency is
    dropped (GIF shows white there); more than 8 bits become 8.

    size: (width, height) in pixels, see ``fit.target_size``; fit: "crop", "pad" or "stretch".
    progress: called as progress(frames kept, count) for each frame, kept or passed; may raise to stop.
    trim: (start, duration) in seconds of the part that counts as the clip; a duration of 0 goes to the end.

    Returns (frames, selection); frames is (F, H, W, 3) float32 RGB in 0..1. Raises VideoError for a file
    that is missing, empty, not a video or cut off before the last chosen frame, and for too few frames. A
    damaged stretch that the decoder conceals or skips is not an error as long as enough frames come out.
    """
    _check_choice(start, step, count)
    with open_source(clip, trim) as source:
        wanted: Sequence[int] = range(start, start + step * count, step)
        if fps is not None:
            wanted = _choose(source.name, source.times(), start, step, count, fps)
        times: dict[int, float] = {}
        fitted: dict[int, np.ndarray] = {}
        for number, seconds, picture in source.pictures(wanted):
            times[number] = seconds
            if picture is not None:
                fitted[number] = fit_frame(picture, size, fit)
            if progress:
                progress(len(fitted), count)
        last = wanted[-1]
        if last not in fitted:
            raise _ended_early(source, times, start, step, count)
        if fps is None:
            pace = _average_fps(last - wanted[0], times[last] - times[wanted[0]], source.fps)
        else:
            pace = Fraction(fps).limit_denominator(1001)
        selection = Selection(
            tuple(wanted), tuple(times[number] for number in wanted), pace / step, *source.size
        )
    return _as_tensor([fitted[number] for number in wanted]), selection


def select(
    images: torch.Tensor,
    start: int = 0,
    step: int = 1,
    count: int = 24,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    fps: Fraction | float | None = None,
    source_fps: Fraction | float = UNKNOWN_FPS,
) -> tuple[torch.Tensor, Selection]:
    """``read_frames`` for pictures that are decoded already.

    images: (N, H, W, C) in 0..1, of which the first three channels are used (a single one counts as grey);
    source_fps: their rate. Returns and raises like ``read_frames``.
    """
    _check_choice(start, step, count)
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        shape = tuple(images.shape)
        raise VideoError(f"The video has no usable pictures: needed (frames, height, width, 3), got {shape}.")
    times = [float(index / source_fps) for index in range(len(images))]
    wanted = _choose("The video", times, start, step, count, fps)
    chosen = images[list(wanted), ..., :3].to("cpu", torch.float32).expand(-1, -1, -1, 3)
    source = (chosen.shape[2], chosen.shape[1])
    if target_size(source, size, fit) != source:
        fitted = [fit_frame(np.ascontiguousarray(frame), size, fit) for frame in chosen.numpy()]
        chosen = torch.from_numpy(np.stack(fitted))
    pace = Fraction(source_fps if fps is None else fps).limit_denominator(1001)
    return chosen.contiguous(), Selection(
        tuple(wanted), tuple(times[number] for number in wanted), pace / step, *source
    )


def _choose(
    name: str, times: Sequence[float], start: int, step: int, count: int, fps: Fraction | float | None
) -> Sequence[int]:
    """The frame numbers wanted from a clip whose presentation times are all known."""
    total = len(times)
    if fps is not None:
        if not 0 < fps <= PLAUSIBLE_FPS:
            raise VideoError(f"fps must be above 0 and at most {PLAUSIBLE_FPS}, got {fps}.")
        total = resampled_count(times, fps)
        name = f"{name} at {float(fps):g} frames per second"
    if largest_count(total, start, step) < count:
        raise _too_few(name, total, start, step, count)
    wanted = range(start, start + step * count, step)
    return wanted if fps is None else resample_indices(times, fps, wanted)


def _check_choice(start: int, step: int, count: int) -> None:
    if start < 0 or step < 1 or count < 1:
        raise VideoError(
            f"The first frame must be 0 or more, step and count 1 or more;"
            f" got start {start}, step {step}, count {count}."
        )


def _average_fps(gaps: int, span: float, nominal: Fraction) -> Fraction:
    """The header's rate where ``gaps`` between frames within ``span`` seconds bear it out, else the rate they show."""
    if gaps < 1 or span <= 0:
        return nominal
    if abs(span - float(gaps / nominal)) <= 0.002 + 0.01 * span:
        return nominal
    measured = Fraction(gaps / span).limit_denominator(1001)
    # Anything else comes from broken timestamps.
    return measured if 0 < measured <= PLAUSIBLE_FPS else nominal


def _is_variable(times: Sequence[float]) -> bool:
    gaps = np.diff(times)
    if len(gaps) < 2:
        return False
    median = float(np.median(gaps))
    return bool(np.abs(gaps - median).max() > max(0.002, 0.25 * median))


def _as_tensor(frames: list[np.ndarray]) -> torch.Tensor:
    tensor = torch.empty((len(frames), *frames[0].shape), dtype=torch.float32)
    for index, frame in enumerate(frames):
        # (torch's type stubs know no `out` beside a number)
        torch.divide(torch.from_numpy(frame), 255, out=tensor[index])  # type: ignore[call-overload]
    return tensor


def _ended_early(source: Source, times: dict[int, float], start: int, step: int, count: int) -> VideoError:
    if source.counted:
        return _too_few(source.name, source.counted, start, step, count)
    if not times:
        return undecodable(source.name)
    # Compared in seconds: for a variable rate the header's frame count is only a guess.
    span = max(times.values()) - min(times.values())
    damaged = span + 2 / float(source.fps) < 0.95 * source.duration
    promise = f" (damaged or cut off: its header promises {source.duration:.1f} s)" if damaged else ""
    return _too_few(f"{source.name}{promise}", len(times), start, step, count)


def _too_few(name: str, total: int, start: int, step: int, count: int) -> VideoError:
    has = f"{name} has {'only 1 frame' if total == 1 else f'{total} frames'}"
    if start >= total:
        return VideoError(f"{has}, so it cannot start at frame {start}: start at {total - 1} or earlier.")
    needed = start + step * (count - 1) + 1
    most = largest_count(total, start, step)
    return VideoError(
        f"{has}, but {count} frames from frame {start} in steps of {step} need {needed}:"
        f" ask for at most {most} {'frame' if most == 1 else 'frames'}, start earlier or take smaller steps."
    )
