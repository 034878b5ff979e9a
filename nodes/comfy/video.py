"""Videos in ComfyUI's folders and VIDEO values: which there are, where they lie, and their frames."""

import os
from fractions import Fraction

import folder_paths
import torch
from comfy_api.latest import InputImpl, io

from ...tav_core.video.read import Selection, VideoError, check_readable, read_frames, select
from ...tav_core.video.settings import FrameSelection
from .progress import progress

EXTENSIONS = (
    ".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif",
    ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip


def video_names() -> list[str]:
    """Videos at the top of the input folder, as core's own loaders list it."""
    with os.scandir(folder_paths.get_input_directory()) as entries:
        return sorted(
            entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
        )


def video_path(name: str) -> str:
    """The file that a combo value such as "clip.mp4" or "clip.mp4 [output]" means, inside ComfyUI's folders.

    Checked here and not left to folder_paths, whose older versions let names such as "../clip.mp4" through. Raises
    VideoError for a name outside of them.
    """
    if not name:
        raise VideoError("No video is chosen: upload one, or connect video_input.")
    relative, folder = folder_paths.annotated_filepath(name)
    folder = os.path.realpath(folder or folder_paths.get_input_directory())
    try:
        path = os.path.realpath(os.path.join(folder, relative))
        inside = os.path.commonpath((folder, path)) == folder
    except ValueError:
        # A null byte, or another drive on Windows.
        inside = False
    if not inside:
        raise VideoError(f"{name!r:.90} is outside ComfyUI's folders: copy the video into the input folder.")
    return path


def read_video(
    name: str, video: io.Video.Type | None, chosen: FrameSelection
) -> tuple[torch.Tensor, Selection]:
    """The chosen frames (F, H, W, 3) in 0..1 of ``video``, or of the file ``name`` if that is None.

    Raises VideoError. Moves the running node's progress bar, and ends where the user interrupts.
    """
    choice = {
        "start": chosen.start_frame,
        "step": chosen.frame_stride,
        "count": chosen.frame_count,
        "size": (chosen.width, chosen.height),
        "fit": chosen.fit,
        "fps": resampled_rate(chosen.resample_fps),
    }
    path = video_path(name) if video is None else _whole_file(video)
    if path is not None:
        return read_frames(path, **choice, progress=progress(chosen.frame_count))
    components = video.get_components()
    return select(components.images, **choice, source_fps=components.frame_rate)


def resampled_rate(fps: float) -> Fraction | None:
    """The input resample_fps as an exact rate; None for 0, which keeps the frames as they are stored."""
    return Fraction(fps).limit_denominator(1001) if fps else None


def _whole_file(video: io.Video.Type) -> str | None:
    """The file behind a VIDEO that is an untrimmed file; only the chosen frames need decoding then."""
    if not isinstance(video, InputImpl.VideoFromFile):
        return None
    source = video.get_stream_source()
    if not isinstance(source, str):
        return None
    check_readable(source)
    return source if InputImpl.VideoFromFile(source).get_duration() == video.get_duration() else None
