"""Inflate Model: an image MODEL that treats its batch as the frames of one clip."""

from comfy_api.latest import io

from ..tav_core.inflation.attach import InflationMode
from ..tav_core.inflation.attention import ATTENTION_MODES
from ..tav_core.inflation.group_norm import NORM_MODES
from .comfy.checks import check_numbers
from .comfy.model.inflate import Inflation, inflate, inflation_of


class TAVInflateModel(io.ComfyNode):
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
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTION_MODES),
                    default="first+previous",
                    tooltip=(
                        "Which frames each frame looks at. first+previous is the paper's; all is steadier and "
                        "needs far more memory; off leaves every frame to itself."
                    ),
                ),
                io.Combo.Input(
                    "norm",
                    options=list(NORM_MODES),
                    default="joint",
                    tooltip=(
                        "joint: brightness and contrast statistics run over all frames, as in the official code. "
                        "per frame: as in the image model."
                    ),
                ),
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
    def execute(cls, model, attention, norm, chunk_frames=0) -> io.NodeOutput:
        check_numbers(cls, chunk_frames=chunk_frames)
        # Tuned weights that the model already carries stay; they only learn to live with another mode.
        before = inflation_of(model) or Inflation()
        return io.NodeOutput(
            inflate(model, Inflation(InflationMode(attention, norm), before.layers, chunk_frames))
        )
