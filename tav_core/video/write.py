"""Writing frames: mp4 that every player and browser shows, or numbered PNG pictures."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image
from torch import Tensor

from .sound import Sound

_BT709 = 1
"""FFmpeg's number of ITU-R BT.709, for matrix, primaries and transfer."""

_CRF = "16"
"""x264's quality; 16 to 18 look like the source."""


def save_video(path: Path | str, frames: Tensor, fps: float, sound: Sound | None = None) -> None:
    """Writes frames (F, H, W, 3) in 0..1 as mp4, or into the folder ``path`` as 00000.png and so on.

    The suffix of ``path`` decides. ``sound`` goes into the mp4. Raises OSError if it cannot be written, and ValueError
    for sides that are odd in an mp4.
    """
    path = Path(path)
    pictures = (frames.clamp(0, 1) * 255).round().byte().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".mp4":
        # Written beside and moved, so that a video under its name is a whole one.
        part = path.with_suffix(".part.mp4")
        try:
            _write_mp4(part, pictures, Fraction(fps).limit_denominator(1001), sound)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return
    path.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{number:05}.png")


def _write_mp4(path: Path, pictures: np.ndarray, fps: Fraction, sound: Sound | None) -> None:
    """H.264, yuv420p, BT.709, the index in front, so that a page can play it while it loads."""
    height, width = pictures.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"an mp4 needs even sides, not {width} x {height}")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": _CRF})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG.value
        heard: Any = None
        if sound is not None:
            layout = "mono" if len(sound.waveform) == 1 else "stereo"
            heard = container.add_stream("aac", rate=sound.rate, layout=layout)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            waveform = np.ascontiguousarray(sound.waveform[:2].numpy())
            heard_frame = av.AudioFrame.from_ndarray(waveform, format="fltp", layout=layout)
            heard_frame.sample_rate = sound.rate
            # Counted from 0, so that the encoder's lead-in lies before it and players skip it.
            heard_frame.pts, heard_frame.time_base = 0, Fraction(1, sound.rate)
            container.mux(heard.encode(heard_frame))
            container.mux(heard.encode())
