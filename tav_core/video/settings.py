"""Which frames of a clip to take, and at which size."""

from dataclasses import dataclass

from ..settings import Settings, setting
from .fit import FITS


@dataclass(frozen=True)
class FrameSelection(Settings):
    """Frames start_frame, start_frame + frame_stride, ...: frame_count of them, fitted to width x height."""

    start_frame: int = setting(0, "The first frame to take, counted from 0.", 0, 1_000_000)
    frame_stride: int = setting(
        1, "Takes every n-th frame. 2 halves the frame rate and covers twice the time.", 1, 1000
    )
    frame_count: int = setting(
        24,
        "How many frames to take. Tuning needs memory and time in proportion; 8 to 32 is usual. The clip must have "
        "that many.",
        1,
        1024,
    )
    width: int = setting(
        512,
        "Width of the frames in pixels, a multiple of 8. 0 follows the height by the clip's aspect; 0 for both keeps "
        "the clip's size.",
        0,
        4096,
        step=8,
    )
    height: int = setting(
        512,
        "Height of the frames in pixels, a multiple of 8. 0 follows the width by the clip's aspect; 0 for both keeps "
        "the clip's size.",
        0,
        4096,
        step=8,
    )
    fit: str = setting(
        "crop",
        "When the clip has another aspect: crop keeps the centre, pad adds black bars, stretch distorts.",
        choices=FITS,
    )
    resample_fps: float = setting(
        0.0,
        "0 takes the clip's frames as they are stored. Any other rate first resamples the clip to that many frames per "
        "second by its timestamps, for a variable frame rate (screen recording, GIF); start_frame, frame_stride and "
        "frame_count then refer to the resampled frames.",
        0.0,
        240.0,
        step=0.01,
    )
