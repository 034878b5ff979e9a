"""Inflate Model: an image MODEL that treats its batch as the frames of one clip."""

from comfy_api.latest import io

from ..tav_core.inflation.mode import InflationMode
from .comfy.inputs import inputs_for
from .comfy.model.inflate import Inflation, inflate, inflation_of
from .comfy.node import Node


class TAVInflateModel(Node):
    """Attaches sparse-causal attention and group norm over frames to a MODEL (Tune-A-Video, section 3.2)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVInflateModel",
            display_name="Inflate Model",
            category="Tune-A-Video",
            description=(
                "Makes a Stable Diffusion model treat its batch as the frames of one video: every frame looks at "
                "the first and the previous frame. Use it before Tune on One Video, or alone for editing "
                "without tuning."
            ),
            search_aliases=[
                "video model",
                "cross-frame attention",
                "sparse causal attention",
                "text2video zero",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.x or 2.x model, with LoRAs or not."),
                *inputs_for(InflationMode),
                io.Int.Input(
                    "chunk_frames",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip=(
                        "For long clips: sample so many frames at a time. The same result with less memory, "
                        "in more time. 0 takes all frames at once."
                    ),
                    advanced=True,
                ),
            ],
            outputs=[io.Model.Output(tooltip="The inflated model. The model that came in is unchanged.")],
        )

    @classmethod
    def execute(cls, model, attention, norm, chunk_frames) -> io.NodeOutput:
        # Tuned weights that the model already carries stay; they only learn to live with another mode.
        before = inflation_of(model) or Inflation()
        return io.NodeOutput(
            inflate(model, Inflation(InflationMode(attention, norm), before.layers, chunk_frames))
        )
