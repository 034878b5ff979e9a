"""Videos in ComfyUI's folders and VIDEO values: which there are, where they lie, and their frames."""

import itertools
import os
from fractions import Fraction
from typing import BinaryIO

import folder_paths
import torch
from comfy_api.latest import InputImpl, io

from ...tav_core.video.pictures import STILL
from ...tav_core.video.read import Selection, VideoError, read_frames, select
from ...tav_core.video.settings import FrameSelection
from ...tav_core.video.sound import Sound, read_sound
from .progress import progress

EXTENSIONS = (
    ".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".vob", ".dv",
    ".wmv", ".flv", ".ogv", ".3gp", ".webp", ".avif", ".apng",
)  # fmt: skip
# Entries of a folder that are looked at to find out whether it holds pictures.
_LOOKED_AT = 20


def video_names() -> list[str]:
    """Videos at the top of the input folder, as core's own loaders list it, and folders of pictures ("name/").

    An entry that cannot be read, such as a link to itself, is left out.
    """
    with os.scandir(folder_paths.get_input_directory()) as entries:
        return sorted(filter(None, map(_listed_name, entries)))


def _listed_name(entry: os.DirEntry) -> str | None:
    try:
        if entry.is_file():
            return entry.name if entry.name.lower().endswith(EXTENSIONS) else None
        if entry.is_dir():
            with os.scandir(entry) as inside:
                names = [item.name.lower() for item in itertools.islice(inside, _LOOKED_AT)]
            return f"{entry.name}/" if any(name.endswith(STILL) for name in names) else None
    except OSError:
        pass
    return None


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
) -> tuple[torch.Tensor, Selection, Sound | None]:
    """The chosen frames (F, H, W, 3) in 0..1 of ``video``, or of the file ``name`` if that is None, and their sound.

    A VIDEO is read through its public interface, and no more of it is decoded than what is kept. Raises VideoError.
    Moves the running node's progress bar, and ends where the user interrupts.
    """
    choice = {
        "start": chosen.start_frame,
        "step": chosen.frame_stride,
        "count": chosen.frame_count,
        "size": (chosen.width, chosen.height),
        "fit": chosen.fit,
        "fps": resampled_rate(chosen.resample_fps),
    }
    file = (video_path(name), (0.0, 0.0)) if video is None else _file_of(video)
    if file is not None:
        clip, trim = file
        frames, selection = read_frames(clip, **choice, trim=trim, progress=progress(chosen.frame_count))
        return frames, selection, read_sound(clip, selection.seconds[0], selection.duration)
    components = video.get_components()
    frames, selection = select(components.images, **choice, source_fps=components.frame_rate)
    return frames, selection, _cut(components.audio, selection)


def audio(sound: Sound | None) -> dict | None:
    """``sound`` as core's AUDIO; None for a clip without, as core's own nodes give it."""
    return None if sound is None else {"waveform": sound.waveform[None], "sample_rate": sound.rate}


def resampled_rate(fps: float) -> Fraction | None:
    """The input resample_fps as an exact rate; None for 0, which keeps the frames as they are stored."""
    return Fraction(fps).limit_denominator(1001) if fps else None


def _file_of(video: io.Video.Type) -> tuple[str | BinaryIO, tuple[float, float]] | None:
    """The file behind a VIDEO and the (start, duration) in seconds that counts of it; None if it shows something else.

    A crop, a list of clips and other packs' videos have pictures that are not the file's.
    """
    plain = InputImpl.VideoFromFile
    if not isinstance(video, plain) or type(video).get_components is not plain.get_components:
        return None
    source = video.get_stream_source()
    if isinstance(source, str) and not os.path.isfile(source):
        # Read all the same: the reader's sentence names the file.
        return source, (0.0, 0.0)
    file = plain(source)
    if file.get_dimensions() != video.get_dimensions():
        return None
    if hasattr(video, "get_active_trim_window"):
        return source, video.get_active_trim_window()
    # Before ComfyUI 0.24 a trim shows in the duration alone.
    return (source, (0.0, 0.0)) if file.get_duration() == video.get_duration() else None


def _cut(given: dict | None, selection: Selection) -> Sound | None:
    if given is None:
        return None
    waveform, rate = given["waveform"][0], int(given["sample_rate"])
    begin = round(selection.seconds[0] * rate)
    return Sound(waveform[:, begin : begin + round(selection.duration * rate)].float(), rate)
