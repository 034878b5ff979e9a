"""Load Video Frames: the frames of one clip, chosen and fitted, as IMAGE."""

import os
from fractions import Fraction

import folder_paths
import torch
from comfy_api.latest import InputImpl, io, ui

from ..tav_core.video.read import Selection, VideoError, check_readable, read_frames, select
from ..tav_core.video.settings import FrameSelection
from .comfy.inputs import input_for, inputs_for
from .comfy.node import Node
from .comfy.page.clips import clip_path
from .comfy.page.player import player
from .comfy.progress import connects, progress

EXTENSIONS = (
    ".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif",
    ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip
PREVIEW_FRAMES = 48
PREVIEW_SIDE = 384


class TAVLoadVideo(Node):
    """Chosen frames of one clip, fitted to a size, as an image batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id="TAVLoadVideo",
            display_name="Load Video Frames",
            category="Tune-A-Video",
            description=(
                "Reads a few frames of a clip at the size that the model works in."
                " Only the chosen frames are kept in memory."
            ),
            search_aliases=["tune a video", "load video", "import video", "video to images", "gif", "frames"],
            inputs=[
                io.Combo.Input(
                    "video",
                    # One empty entry, or an empty input folder would stop a graph that uses video_input.
                    options=_listed() or [""],
                    upload=io.UploadType.video,
                    tooltip="A video or GIF in the input folder. Not used while video_input is connected.",
                ),
                *inputs_for(FrameSelection, until="resample_fps"),
                io.Video.Input(
                    "video_input",
                    optional=True,
                    tooltip="A VIDEO from another node, used instead of the file chosen above.",
                ),
                input_for(FrameSelection, "resample_fps", optional=True),
            ],
            outputs=[
                io.Image.Output("frames", display_name="frames", tooltip="The chosen frames, as a batch."),
                io.Float.Output(
                    "fps",
                    display_name="fps",
                    tooltip="The rate at which the chosen frames keep the clip's pace, for Create Video.",
                ),
                io.Int.Output("width", display_name="width", tooltip="Width of the frames in pixels."),
                io.Int.Output("height", display_name="height", tooltip="Height of the frames in pixels."),
                io.Int.Output("frame_count", display_name="frame_count", tooltip="Number of frames."),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types, video=None) -> bool | str:
        """True, or one sentence about a file that cannot be read or a connection of the wrong type."""
        # Asking for input_types, the only way to see that video_input is connected, switches off the host's
        # own check of connected types.
        expected = {entry.id: entry.get_io_type() for entry in cls.define_schema().inputs}
        for name, received in input_types.items():
            if not connects(received, expected[name]):
                return f"{name} takes {expected[name]}, but {received} is connected: connect another output."
        if "video_input" in input_types or "video" in input_types:
            return True
        try:
            check_readable(clip_path(video))
        except VideoError as error:
            return f"Load Video Frames (video): {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, video="", **kwargs) -> str | None:
        """Changes when the chosen file does."""
        try:
            status = os.stat(clip_path(video))
        except (VideoError, OSError):
            return None
        return f"{video}:{status.st_mtime_ns}:{status.st_size}"

    @classmethod
    def execute(
        cls, video, start_frame, frame_stride, frame_count, width, height, fit, video_input, resample_fps
    ) -> io.NodeOutput:
        """Reads the frames; raises ValueError with one sentence that names the input."""
        choice = {
            "start": start_frame,
            "step": frame_stride,
            "count": frame_count,
            "size": (width, height),
            "fit": fit,
            "fps": Fraction(resample_fps).limit_denominator(1001) if resample_fps else None,
        }
        try:
            if video_input is None:
                frames, selection = read_frames(clip_path(video), **choice, progress=progress(frame_count))
            else:
                frames, selection = _from_video(video_input, choice)
        except VideoError as error:
            name = "video" if video_input is None else "video_input"
            raise ValueError(f"Load Video Frames ({name}): {error}") from error
        fps = float(selection.fps)
        count, height, width = frames.shape[:3]
        shown = _preview(frames, fps).as_dict() | player([("", frames)], fps)
        return io.NodeOutput(frames, fps, width, height, count, ui=shown)


def _listed() -> list[str]:
    """Videos at the top of the input folder, as core's own loaders list it."""
    with os.scandir(folder_paths.get_input_directory()) as entries:
        return sorted(
            entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
        )


def _from_video(video: io.Video.Type, choice: dict) -> tuple[torch.Tensor, Selection]:
    path = _whole_file(video)
    if path is not None:
        return read_frames(path, **choice, progress=progress(choice["count"]))
    components = video.get_components()
    return select(components.images, **choice, source_fps=components.frame_rate)


def _whole_file(video: io.Video.Type) -> str | None:
    """The file behind a VIDEO that is an untrimmed file; only the chosen frames need decoding then."""
    if not isinstance(video, InputImpl.VideoFromFile):
        return None
    source = video.get_stream_source()
    if not isinstance(source, str):
        return None
    check_readable(source)
    return source if InputImpl.VideoFromFile(source).get_duration() == video.get_duration() else None


def _preview(frames: torch.Tensor, fps: float) -> ui.SavedImages:
    """A small animated WebP of at most PREVIEW_FRAMES frames in the temp folder."""
    step = -(-len(frames) // PREVIEW_FRAMES)
    height, width = frames.shape[1:3]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    small, _ = select(frames, step=step, count=-(-len(frames) // step), size=size, fit="stretch")
    saved = ui.ImageSaveHelper.save_animated_webp(
        small,
        filename_prefix="TAVLoadVideo",
        folder_type=io.FolderType.temp,
        cls=None,
        fps=max(fps / step, 0.1),
        lossless=False,
        quality=80,
        method=0,
    )
    return ui.SavedImages([saved], is_animated=len(small) > 1)
