"""Prompt Schedule."""

from comfy_api.latest import io

from ..tav_core.prompts import ScheduleError, blend_embeddings, key_weights, parse_schedule
from ..tav_core.video.settings import FrameSelection
from .comfy.checks import check_text_encoder
from .comfy.inputs import input_for
from .comfy.node import Node


class TAVPromptSchedule(Node):
    """Prompts over time as per-frame conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVPromptSchedule",
            display_name="Prompt Schedule",
            category="Tune-A-Video",
            description="Gives every frame its own prompt, blended between keyframes.",
            search_aliases=[
                "prompt travel",
                "batch prompt schedule",
                "prompts over time",
                "per-frame prompt",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                io.String.Input(
                    "prompts",
                    default="0: a man is skiing\n12: spider man is skiing",
                    multiline=True,
                    tooltip="One line per keyframe: the frame number from 0, a colon, and the prompt from there on.",
                ),
                input_for(
                    FrameSelection,
                    "frame_count",
                    tooltip="Frames of the clip; connect frame_count of Load Video Frames.",
                ),
                io.Boolean.Input(
                    "blend",
                    default=True,
                    tooltip="Blend from one keyframe to the next; off switches at each keyframe.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="One embedding per frame, for Sample Edited Video.")],
        )

    @classmethod
    def validate_inputs(cls, prompts=None) -> bool | str:
        try:
            # A connected text is only known when the graph runs.
            if prompts is not None:
                parse_schedule(prompts)
        except ScheduleError as error:
            return f"The input 'prompts' cannot be read: {error}."
        return True

    @classmethod
    def execute(cls, clip, prompts, frame_count, blend) -> io.NodeOutput:
        check_text_encoder(clip)
        try:
            keys = parse_schedule(prompts)
            encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(key.text)) for key in keys]
            weights = key_weights(keys, frame_count, blend)
            frames = blend_embeddings([conditioning[0][0] for conditioning in encoded], weights)
        except ScheduleError as error:
            raise ValueError(f"The input 'prompts' cannot be read: {error}.") from error
        return io.NodeOutput([[frames, dict(encoded[0][0][1])]])
