"""Load Video Frames: the frames of one clip, chosen and fitted, as IMAGE."""

import os

from comfy_api.latest import io

from ..tav_core.video.read import VideoError, check_readable
from ..tav_core.video.settings import FrameSelection
from .comfy.inputs import input_for, inputs_for
from .comfy.node import Node
from .comfy.page.player import player
from .comfy.progress import connects
from .comfy.video import audio, read_video, video_names, video_path


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
                    options=video_names() or [""],
                    upload=io.UploadType.video,
                    tooltip=(
                        "A video, an animation or a folder of pictures in the input folder."
                        " Not used while video_input is connected."
                    ),
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
                io.Image.Output("frames", display_name="frames", tooltip="The selected frames, as a batch."),
                io.Float.Output(
                    "fps",
                    display_name="fps",
                    tooltip="The frame rate that keeps the clip's speed, for Create Video.",
                ),
                io.Int.Output("width", display_name="width", tooltip="Width of the frames in pixels."),
                io.Int.Output("height", display_name="height", tooltip="Height of the frames in pixels."),
                io.Int.Output("frame_count", display_name="frame_count", tooltip="Number of frames."),
                io.Audio.Output(
                    "audio",
                    display_name="audio",
                    tooltip="The audio of the selected frames, for Create Video. Empty for a clip without audio.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types, video=None) -> bool | str:
        """True, or one sentence about a file that cannot be read or a connection of the wrong type."""
        # Asking for input_types, the only way to see that video_input is connected, switches off ComfyUI's
        # own check of connected types.
        expected = {entry.id: entry.get_io_type() for entry in cls.define_schema().inputs}
        for name, received in input_types.items():
            if not connects(received, expected[name]):
                return f"{name} takes {expected[name]}, but {received} is connected: connect another output."
        if "video_input" in input_types or "video" in input_types:
            return True
        try:
            check_readable(video_path(video))
        except VideoError as error:
            return f"Load Video Frames (video): {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, video="", **kwargs) -> str | None:
        """Changes when the chosen file does."""
        try:
            status = os.stat(video_path(video))
        except (VideoError, OSError):
            return None
        return f"{video}:{status.st_mtime_ns}:{status.st_size}"

    @classmethod
    def execute(
        cls, video, start_frame, frame_stride, frame_count, width, height, fit, video_input, resample_fps
    ) -> io.NodeOutput:
        """Reads the frames; raises ValueError with one sentence that names the input."""
        chosen = FrameSelection(start_frame, frame_stride, frame_count, width, height, fit, resample_fps)
        try:
            frames, selection, sound = read_video(video, video_input, chosen)
        except VideoError as error:
            name = "video" if video_input is None else "video_input"
            raise ValueError(f"Load Video Frames ({name}): {error}") from error
        fps = float(selection.fps)
        count, height, width = frames.shape[:3]
        shown = player([("", frames)], fps)
        return io.NodeOutput(frames, fps, width, height, count, audio(sound), ui=shown)
