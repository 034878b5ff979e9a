"""Reading the frames of one clip with OpenCV, and choosing frames from pictures that are decoded already."""

import bisect
import codecs
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

# OpenCV hands FFmpeg's own messages to stderr; the variable is read once, when the first file is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
import torch

from .fit import fit_frame, target_size

# OpenCV moved these functions between 4.10 and 4.13.
_cv2_logging = getattr(cv2.utils, "logging", cv2)
_SILENT = 0
_UNKNOWN_FPS = Fraction(25)
_PLAUSIBLE_FPS = 1000
_HEAD_BYTES = 512


class VideoError(ValueError):
    """A clip that cannot be read as asked; the message is one sentence that names the file and the remedy."""


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

    indices: the clip's own frame numbers, from 0; fps: at which the taken frames play at the clip's pace;
    source_width, source_height: the clip's size in square pixels, after rotation.
    """

    indices: tuple[int, ...]
    fps: Fraction
    source_width: int
    source_height: int


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


def probe(path: str | os.PathLike) -> VideoInfo:
    """Counts and measures a clip by decoding all of it. Raises VideoError if nothing in it decodes."""
    path = Path(path)
    with _opened(path) as capture:
        times = list(_grabbed(capture))
        width, height = _square_pixel_size(capture)
        nominal = _nominal_fps(capture)
    if not times:
        raise _undecodable(path)
    fps = _average_fps(times, nominal)
    return VideoInfo(len(times), fps, width, height, float(len(times) / fps), _is_variable(times))


def glance(path: str | os.PathLike) -> VideoInfo:
    """What a clip's header says of it; quick, and wrong where the header is.

    ``frames`` is 0 where the header does not say; ``variable`` is not known and False. Raises VideoError for what
    is no video.
    """
    with _opened(Path(path)) as capture:
        frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        fps = _nominal_fps(capture)
        width, height = _square_pixel_size(capture)
    return VideoInfo(frames, fps, width, height, float(frames / fps), variable=False)


def check_readable(path: str | os.PathLike) -> None:
    """Raises VideoError unless at least the clip's first frame can be decoded."""
    path = Path(path)
    with _opened(path) as capture:
        if next(_grabbed(capture), None) is None:
            raise _undecodable(path)


def read_frames(
    path: str | os.PathLike,
    start: int = 0,
    step: int = 1,
    count: int = 24,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    fps: Fraction | float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, Selection]:
    """Reads ``count`` frames of a clip: numbers start, start + step, start + 2 step, ...

    The numbers count the clip's own frames as they are stored. With ``fps``, the clip is first brought to
    that constant rate by its timestamps (see ``resample_indices``), and the numbers count the frames of the
    result: the way to get an even pace out of a clip of variable frame rate.

    Nothing behind the last chosen frame is decoded, and each frame is fitted as it comes. Rotation and pixel
    aspect are applied; transparency is dropped (GIF shows white there); 10 and 16 bits become 8.

    size: (width, height) in pixels, see ``frames.target_size``; fit: "crop", "pad" or "stretch".
    progress: called as progress(frames kept, count) after each decoded frame, kept or not; may raise to stop.

    Returns (frames, selection); frames is (F, H, W, 3) float32 RGB in 0..1. Raises VideoError for a file
    that is missing, empty, not a video or cut off before the last chosen frame, and for too few frames. A
    damaged stretch that the decoder conceals or skips is no error as long as enough frames come out.
    """
    _check_choice(start, step, count)
    path = Path(path)
    wanted: Sequence[int] = range(start, start + step * count, step)
    if fps is not None:
        wanted = _choose(path.name, _timestamps(path), start, step, count, fps)

    kept: list[np.ndarray] = []
    times: list[float] = []
    with _opened(path) as capture:
        grabbed = _grabbed(capture)
        for index in wanted:
            if len(times) == index + 1 and kept:
                kept.append(kept[-1])
                continue
            while len(times) <= index and (seconds := next(grabbed, None)) is not None:
                times.append(seconds)
                if progress:
                    progress(len(kept), count)
            if len(times) <= index:
                raise _ended_early(path, capture, times, start, step, count)
            frame = fit_frame(_retrieve(path, capture), size, fit)
            kept.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            if progress:
                progress(len(kept), count)
        width, height = _square_pixel_size(capture)
        nominal = _nominal_fps(capture)
    pace = Fraction(fps).limit_denominator(1001) if fps is not None else _average_fps(times[start:], nominal)
    return _as_tensor(kept), Selection(tuple(wanted), pace / step, width, height)


def select(
    images: torch.Tensor,
    start: int = 0,
    step: int = 1,
    count: int = 24,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
    fps: Fraction | float | None = None,
    source_fps: Fraction | float = _UNKNOWN_FPS,
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
    return chosen.contiguous(), Selection(tuple(wanted), pace / step, *source)


def _choose(
    name: str, times: Sequence[float], start: int, step: int, count: int, fps: Fraction | float | None
) -> Sequence[int]:
    """The frame numbers wanted from a clip whose presentation times are all known."""
    total = len(times)
    if fps is not None:
        if not 0 < fps <= _PLAUSIBLE_FPS:
            raise VideoError(f"fps must be above 0 and at most {_PLAUSIBLE_FPS}, got {fps}.")
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


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    _check_file(path)
    level = _cv2_logging.getLogLevel()
    _cv2_logging.setLogLevel(_SILENT)
    try:
        # Only FFmpeg: other backends read file names as patterns. Absolute: FFmpeg must not see a URL.
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise VideoError(
                    f"{path.name} is not a video that can be read, or it is damaged or incomplete:"
                    " check that it plays, and save it again as mp4 (H.264)."
                )
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            yield capture
        finally:
            capture.release()
    except cv2.error as error:
        raise VideoError(f"{path.name} cannot be decoded: save it again as mp4 (H.264).") from error
    finally:
        _cv2_logging.setLogLevel(level)


def _check_file(path: Path) -> None:
    try:
        is_file = path.is_file()
    except OSError:
        # A name longer than file systems take.
        is_file = False
    if not is_file:
        name = (path.name or str(path))[:90]
        name = name if name.isprintable() else f"{name!r:.90}"
        raise VideoError(f"{name} does not exist or is no file: choose or upload another video.")
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


def _is_text(head: bytes) -> bool:
    try:
        # Incremental: a character cut at the end of the head is no error.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _grabbed(capture: cv2.VideoCapture) -> Iterator[float]:
    """Advances frame by frame without converting pixels; yields each frame's presentation time in seconds."""
    while capture.grab():
        yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


def _timestamps(path: Path) -> list[float]:
    """All presentation times, made from the nominal rate where the file has none."""
    with _opened(path) as capture:
        times = list(_grabbed(capture))
        nominal = _nominal_fps(capture)
    if not times:
        raise _undecodable(path)
    if (np.diff(times) <= 0).any():
        return [float(index / nominal) for index in range(len(times))]
    return times


def _retrieve(path: Path, capture: cv2.VideoCapture) -> np.ndarray:
    """The frame grabbed last, (H, W, 3) uint8 BGR, in square pixels."""
    ok, frame = capture.retrieve()
    if not ok:
        raise _undecodable(path)
    shape = _square_pixel_size(capture)
    if shape != (frame.shape[1], frame.shape[0]):
        frame = cv2.resize(frame, shape, interpolation=cv2.INTER_CUBIC)
    return frame


def _square_pixel_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    """(width, height) after rotation, with non-square pixels made square by widening the short side."""
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    numerator, denominator = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    aspect = numerator / denominator if numerator > 0 and denominator > 0 else 1.0
    if int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180:
        aspect = 1 / aspect
    # Outside this range it is a broken header, not an anamorphic clip.
    if not 0.1 < aspect < 10:
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def _nominal_fps(capture: cv2.VideoCapture) -> Fraction:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Fraction(fps).limit_denominator(1001) if 0.01 < fps <= _PLAUSIBLE_FPS else _UNKNOWN_FPS


def _average_fps(times: Sequence[float], nominal: Fraction) -> Fraction:
    """The header's rate where the timestamps bear it out, else the rate that they show."""
    span = times[-1] - times[0]
    if len(times) < 2 or span <= 0:
        return nominal
    if abs(span - float((len(times) - 1) / nominal)) <= 0.002 + 0.01 * span:
        return nominal
    measured = Fraction((len(times) - 1) / span).limit_denominator(1001)
    # Anything else comes from broken timestamps.
    return measured if 0 < measured <= _PLAUSIBLE_FPS else nominal


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


def _undecodable(path: Path) -> VideoError:
    return VideoError(
        f"No frame of {path.name} can be decoded: check that it plays, and save it again as mp4 (H.264)."
    )


def _ended_early(
    path: Path, capture: cv2.VideoCapture, times: Sequence[float], start: int, step: int, count: int
) -> VideoError:
    if not times:
        return _undecodable(path)
    nominal = _nominal_fps(capture)
    promised = capture.get(cv2.CAP_PROP_FRAME_COUNT) / float(nominal)
    # Compared in seconds: for a variable rate the header's frame count is only a guess.
    damaged = times[-1] - times[0] + 2 / float(nominal) < 0.95 * promised
    name = f"{path.name} (damaged or cut off: its header promises {promised:.1f} s)" if damaged else path.name
    return _too_few(name, len(times), start, step, count)


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
