"""Video files through PyAV: exact frames by timestamp, seeking, rotation, interlacing, colours."""

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av.filter import Graph

from . import hdr
from .fit import resize
from .source import PLAUSIBLE_FPS, UNKNOWN_FPS, VideoError, undecodable

_SEEK_FROM = 120
"""Frame number from which seeking pays; before it, decoding from the start is as quick and needs no index."""

_LONG = 1200
"""Frames from which a clip's times are taken from its packets; of shorter ones every frame is decoded and counted."""

_REORDERED = 64
"""Packets that may come after a later one, at most: how far an index is read beyond the last frame wanted."""


class VideoFile:
    """A `Source` over one video stream, the one that FFmpeg holds for the best."""

    def __init__(self, file: Path | BinaryIO, name: str, trim: tuple[float, float] = (0.0, 0.0)) -> None:
        self.name = name
        self._file = file
        self._trim = trim
        self._index: _Index | None = None
        self.counted = 0
        self._open()
        try:
            first = next(self._decoded(), None)
            if first is None:
                raise undecodable(name)
            self._describe(first)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def times(self) -> list[float]:
        """See `Source.times`; made from the nominal rate where the file has no usable times."""
        index = self._indexed()
        if index is not None and len(index.times) >= _LONG:
            return list(index.times)
        times = [frame.time for frame in self._restarted()]
        if None in times or any(later <= earlier for earlier, later in itertools.pairwise(times)):
            return [float(number / self.fps) for number in range(len(times))]
        return list(times)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, float, np.ndarray | None]]:
        """See `Source.pictures`. Seeks where that saves decoding."""
        last = wanted[-1]
        if last >= _SEEK_FROM:
            index = self._indexed(last)
            if index is not None and len(index.times) > last:
                yield from self._sought(index, sorted(set(wanted)))
                if index.trusted:
                    return
            elif index is not None and len(index.times) >= _LONG:
                self.counted = len(index.times)
                return
        # A range answers at once, however long it is.
        chosen = wanted if isinstance(wanted, range) else set(wanted)
        for number, frame in enumerate(self._restarted()):
            seconds = frame.time if frame.time is not None else float(number / self.fps)
            yield number, seconds, self._rgb(frame) if number in chosen else None
            if number >= last:
                return

    def nearest(self, seconds: Sequence[float]) -> list[np.ndarray]:
        """See `Source.nearest`: the keyframe before each time, which is decoded alone."""
        found: list[np.ndarray] = []
        for moment in seconds:
            frame = next(self._decoded(self._begin + moment), None)
            if frame is not None:
                found.append(self._rgb(frame))
        return found

    def _open(self) -> None:
        if not isinstance(self._file, Path):
            self._file.seek(0)
        try:
            # Absolute: FFmpeg must not see a URL or a pattern.
            self._container: Any = av.open(
                str(self._file.absolute()) if isinstance(self._file, Path) else self._file, "r"
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"{self.name} is not a video that can be read, or it is damaged or incomplete:"
                " check that it plays, and save it again as mp4 (H.264)."
            ) from error
        streams = [stream for stream in self._container.streams.video if not _is_attached_picture(stream)]
        if not streams:
            has_sound = bool(self._container.streams.audio)
            self._container.close()
            raise VideoError(
                f"{self.name} {'is a sound file without a video' if has_sound else 'holds no video'}:"
                " choose a video file."
            )
        if any(stream.codec_context is None for stream in streams):
            self._container.close()
            raise undecodable(self.name)
        best = self._container.streams.best("video")
        self._stream: Any = best if best in streams else streams[0]
        self._stream.thread_type = "AUTO"

    def _describe(self, first: Any) -> None:
        stream = self._stream
        self._begin = first.time or 0.0
        self._quarter_turns = round((first.rotation or 0) / 90) % 4
        self._transfer = getattr(first, "color_trc", None) or getattr(stream.codec_context, "color_trc", 0)
        self._deinterlaced = bool(first.interlaced_frame)
        self._shape = _square_pixels(first.width, first.height, stream.sample_aspect_ratio)
        self.size = self._shape[::-1] if self._quarter_turns % 2 else self._shape
        rate = stream.average_rate or stream.guessed_rate
        self.fps = Fraction(rate) if rate and 0.01 < rate <= PLAUSIBLE_FPS else UNKNOWN_FPS
        self.duration = self._promised_duration()
        self.frames = 0 if any(self._trim) else stream.frames
        if not self.frames:
            self.frames = round(self.duration * self.fps)

    def _promised_duration(self) -> float:
        stream = self._stream
        whole = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if not whole and self._container.duration:
            whole = self._container.duration / av.time_base
        start, duration = self._trim
        left = max(0.0, whole - start)
        return min(duration, left) if duration and left else duration or left

    def _restarted(self) -> Iterator[Any]:
        """All frames from the first one on; the file is opened again, because not every one can seek to its start."""
        self._container.close()
        self._open()
        return self._decoded()

    def _decoded(self, seconds: float | None = None) -> Iterator[Any]:
        """Frames in order within the trim, from the keyframe before ``seconds`` on; what is damaged is skipped."""
        start, duration = self._trim
        target = start if seconds is None else seconds
        if target > 0:
            self._seek(target)
        frames = self._raw()
        if seconds is None and any(self._trim):
            frames = _within(frames, start, start + duration if duration else math.inf)
        return _deinterlaced(frames)

    def _raw(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EOFError, av.error.FFmpegError):
                break
            try:
                yield from packet.decode()
            except (EOFError, av.error.FFmpegError):
                continue
        try:
            # What the decoder still holds where the tail is cut off; nothing where the end was read.
            yield from self._stream.decode(None)
        except (EOFError, av.error.FFmpegError):
            return

    def _seek(self, seconds: float) -> None:
        offset = int(seconds / self._stream.time_base)
        try:
            self._container.seek(offset, stream=self._stream, backward=True)
        except (av.error.FFmpegError, OSError):
            # A stream without an index; it is read from where it stands.
            self._container.close()
            self._open()

    def _indexed(self, last: int | None = None) -> "_Index | None":
        """The clip's times by its packets, at least up to frame ``last``; None where they do not tell."""
        if self._index is None or (last is not None and len(self._index.times) <= last):
            self._container.close()
            self._open()
            limit = None if last is None else last + 1 + _REORDERED
            self._index = _Index.of(self._container, self._stream, self._begin, self._trim, limit)
            self._container.close()
            self._open()
        return self._index

    def _sought(self, index: "_Index", wanted: list[int]) -> Iterator[tuple[int, float, np.ndarray | None]]:
        """Frames up to each of the ``wanted`` numbers, from the keyframe before it.

        Stops and distrusts the index where the decoder's frames are not the index's.
        """
        frames: Iterator[Any] = iter(())
        here = -1
        for number in wanted:
            key = index.keyframe_before(number)
            if key > here or here < 0:
                frames = self._decoded(index.times[key])
                here = -1
            for frame in frames:
                found = index.number_of(frame.time)
                if found is None and here < 0:
                    # Frames before the keyframe that a seek may bring along, or that need an earlier one.
                    continue
                if found is None or (here >= 0 and found != here + 1):
                    index.trusted = False
                    return
                here = found
                yield here, index.times[here], self._rgb(frame) if here == number else None
                if here >= number:
                    break
            if here != number:
                index.trusted = False
                return

    def _rgb(self, frame: Any) -> np.ndarray:
        """(H, W, 3) uint8 in square pixels, upright."""
        try:
            if self._transfer in (hdr.PQ, hdr.HLG):
                picture = hdr.tone_map(frame.to_ndarray(format="rgb48le"), self._transfer, self.name)
            else:
                picture = frame.to_ndarray(format="rgb24")
        except (av.error.FFmpegError, ValueError) as error:
            raise undecodable(self.name) from error
        if (picture.shape[1], picture.shape[0]) != self._shape:
            # Anamorphic pixels, or a stream whose size changes midway.
            picture = resize(picture, *self._shape)
        return np.ascontiguousarray(np.rot90(picture, self._quarter_turns))


class _Index:
    """Presentation times of all frames, ascending, and which of them a decoder can start at."""

    def __init__(self, times: list[float], keyframes: list[int]) -> None:
        self.times = times
        self.trusted = True
        self._keyframes = keyframes
        self._numbers = {_key(seconds): number for number, seconds in enumerate(times)}

    @classmethod
    def of(
        cls, container: Any, stream: Any, begin: float, trim: tuple[float, float], limit: int | None
    ) -> "_Index | None":
        """Reads packets without decoding; None where a packet has no time, or two have the same.

        ``begin`` is the time of the first frame that decodes: what a decoder drops before it does not count.
        """
        packets: list[tuple[float, bool]] = []
        start, duration = trim
        end = start + duration if duration else math.inf
        try:
            for packet in container.demux(stream):
                if packet.dts is None and not packet.size:
                    continue
                if packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                seconds = float(packet.pts * packet.time_base)
                if begin <= seconds < end:
                    packets.append((seconds, packet.is_keyframe))
                if limit is not None and len(packets) >= limit:
                    break
        except (EOFError, av.error.FFmpegError):
            pass
        packets.sort()
        times = [seconds for seconds, _ in packets]
        if not times or any(later <= earlier for earlier, later in itertools.pairwise(times)):
            return None
        return cls(times, [number for number, (_, key) in enumerate(packets) if key] or [0])

    def keyframe_before(self, number: int) -> int:
        """The last number at or before ``number`` that a decoder can start at."""
        return self._keyframes[max(0, bisect.bisect_right(self._keyframes, number) - 1)]

    def number_of(self, seconds: float | None) -> int | None:
        """The number of the frame with this presentation time, if there is one."""
        return None if seconds is None else self._numbers.get(_key(seconds))


def _key(seconds: float) -> int:
    # Filters rescale times; no two frames are a hundredth of a millisecond apart.
    return round(seconds * 100_000)


def _is_attached_picture(stream: Any) -> bool:
    return "attached_pic" in str(getattr(stream, "disposition", ""))


def _square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) with non-square pixels made square by widening the short side."""
    ratio = float(aspect) if aspect else 1.0
    # Outside this range it is a broken header, not an anamorphic clip.
    if not 0.1 < ratio < 10:
        return width, height
    return (round(width * ratio), height) if ratio >= 1 else (width, round(height / ratio))


def _within(frames: Iterator[Any], start: float, end: float) -> Iterator[Any]:
    for frame in frames:
        if frame.time is not None and frame.time < start - 1e-6:
            continue
        if frame.time is not None and frame.time >= end - 1e-6:
            return
        yield frame


def _deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """One whole picture for each frame that holds two fields; the others as they are."""
    first = next(frames, None)
    if first is None:
        return
    if not first.interlaced_frame:
        yield first
        yield from frames
        return
    graph = Graph()
    entrance = graph.add_buffer(
        width=first.width, height=first.height, format=first.format.name, time_base=first.time_base
    )
    # One picture per frame, the fields' order as each frame says, and frames without fields as they are.
    weave = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    exit_ = graph.add("buffersink")
    entrance.link_to(weave)
    weave.link_to(exit_)
    graph.configure()

    def done() -> Iterator[Any]:
        while True:
            try:
                yield graph.pull()
            except (BlockingIOError, EOFError):
                return

    yield from _pushed(graph, [first], done)
    yield from _pushed(graph, frames, done)
    graph.push(None)
    yield from done()


def _pushed(graph: Graph, frames: Any, done: Any) -> Iterator[Any]:
    for frame in frames:
        graph.push(frame)
        yield from done()
