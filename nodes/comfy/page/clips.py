"""What the page shows of a clip in ComfyUI's folders before a run: its length, rate, size and small pictures."""

import base64
import logging
from collections.abc import Callable
from fractions import Fraction

from ....tav_core.video.fit import target_size
from ....tav_core.video.read import VideoError, VideoInfo, glance, largest_count, read_frames, strip
from ....tav_core.video.settings import FrameSelection
from ....tav_core.video.sprites import SpriteSheet, shrunk, sprite_sheet
from ..video import resampled_rate, video_path

PREVIEW_SIDE = 288
PREVIEW_FRAMES = 48
_STRIP_FRAMES = 10
_STRIP_SIDE = 72


def describe(name: str, resample_fps: float = 0.0) -> dict:
    """Frames, rate and size of a clip as its header says, and a strip of small pictures over all of it.

    With ``resample_fps`` the frames count at that rate. ``strip`` is None where the clip is shorter than its header
    says. Raises VideoError for what is not a video.
    """
    path = video_path(name)
    info = glance(path)
    frames, fps = _counted(info, resample_fps)
    return {
        "frames": frames,
        "fps": float(fps),
        "width": info.width,
        "height": info.height,
        "strip": _strip(path, info),
    }


def preview(name: str, chosen: FrameSelection, progress: Callable[[int, int], None] | None = None) -> dict:
    """The frames that Load Video Frames will give for ``chosen``, as a small sheet with its picture inside.

    ``progress`` as in `read_frames`; it may raise to stop. Raises VideoError with the sentence that the node would say.
    """
    path = video_path(name)
    info = glance(path)
    total, _ = _counted(info, chosen.resample_fps)
    count, stride = chosen.frame_count, chosen.frame_stride
    # Of many frames only some are read, but the clip must have all of the chosen ones.
    skip = -(-count // PREVIEW_FRAMES)
    if skip > 1 and total and largest_count(total, chosen.start_frame, stride) < count:
        skip = 1
        count = min(count, total + 1)
    size = info.width, info.height
    target = target_size(size, (chosen.width, chosen.height), chosen.fit) or size
    frames, selection = read_frames(
        path,
        start=chosen.start_frame,
        step=stride * skip,
        count=-(-count // skip),
        size=shrunk(target, PREVIEW_SIDE),
        fit=chosen.fit,
        fps=resampled_rate(chosen.resample_fps),
        progress=progress,
    )
    sheet = sprite_sheet(frames, float(selection.fps), PREVIEW_SIDE, PREVIEW_FRAMES)
    return with_picture(sheet) | {"target": list(target)}


def with_picture(sheet: SpriteSheet) -> dict:
    """A sheet's layout with its picture as a data URL."""
    encoded = base64.b64encode(sheet.jpeg).decode("ascii")
    return sheet.layout() | {"picture": f"data:image/jpeg;base64,{encoded}"}


def _counted(info: VideoInfo, resample_fps: float) -> tuple[int, Fraction]:
    rate = resampled_rate(resample_fps)
    return (int(info.duration * rate), rate) if rate else (info.frames, info.fps)


def _strip(path: str, info: VideoInfo) -> dict | None:
    try:
        pictures = strip(path, _STRIP_FRAMES, shrunk((info.width, info.height), _STRIP_SIDE))
    except VideoError as error:
        logging.info("Tune-A-Video: no strip of pictures: %s", error)
        return None
    return with_picture(sprite_sheet(pictures, 1.0, _STRIP_SIDE, _STRIP_FRAMES))
