"""The sound of a clip, cut to the frames that are taken."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from torch import Tensor


@dataclass(frozen=True)
class Sound:
    """waveform: (channels, samples) float32 in -1..1. rate: samples per second."""

    waveform: Tensor
    rate: int


def read_sound(clip: str | Path | BinaryIO, begin: float, seconds: float) -> Sound | None:
    """The sound from ``begin`` on for so many ``seconds``, on the file's own clock; None for a clip without sound.

    Where the clip's sound starts later or ends earlier, silence fills up. What cannot be decoded is left out.
    """
    if isinstance(clip, io.IOBase):
        clip.seek(0)
    try:
        container: Any = av.open(str(Path(clip).absolute()) if isinstance(clip, str | Path) else clip, "r")
    except (av.error.FFmpegError, OSError, ValueError):
        # A folder of pictures or an animation.
        return None
    with container:
        # FFmpeg has no decoder for some tracks (an iPhone's spatial sound); those have no codec context.
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not streams:
            return None
        return _decoded(container, streams[0], begin, seconds)


def _decoded(container: Any, stream: Any, begin: float, seconds: float) -> Sound | None:
    rate = stream.codec_context.sample_rate
    channels = stream.codec_context.channels
    if not rate or not channels:
        return None
    wanted = round(seconds * rate)
    waveform = np.zeros((channels, wanted), np.float32)
    resampler = AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=rate)
    if begin > 0:
        try:
            container.seek(int(begin / stream.time_base), stream=stream, backward=True)
        except (av.error.FFmpegError, OSError):
            container.seek(0)
    place: int | None = None
    for frame in _frames(container, stream, resampler):
        if place is None:
            first = float(frame.pts * frame.time_base) if frame.pts is not None else begin
            place = round((first - begin) * rate)
        part = frame.to_ndarray().reshape(channels, -1)
        start, end = max(0, place), min(wanted, place + part.shape[1])
        if start < end:
            waveform[:, start:end] = part[:, start - place : end - place]
        place += part.shape[1]
        if place >= wanted:
            break
    return Sound(torch.from_numpy(waveform), rate)


def _frames(container: Any, stream: Any, resampler: AudioResampler) -> Any:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, EOFError, av.error.FFmpegError):
            return
        try:
            decoded = packet.decode()
        except (EOFError, av.error.FFmpegError):
            continue
        for frame in decoded:
            yield from resampler.resample(frame)
