"""Tune on One Video."""

import json

from comfy_api.latest import io

from ..tav_core.tuning.run import TuningRun
from ..tav_core.tuning.settings import CHECKPOINTING_MODES, RunSettings, TuningSettings
from .comfy import files
from .comfy.checks import check_conditioning_frames, check_latents, prompt_embedding
from .comfy.graph import upstream_value
from .comfy.inputs import input_for, inputs_for
from .comfy.model.apply import apply_weights
from .comfy.model.base_weights import base_fingerprint
from .comfy.model.detect import check_model
from .comfy.model.inflate import Inflation, inflation_of
from .comfy.node import Node
from .comfy.tuning.memory import AUTOMATIC, PRESETS
from .comfy.tuning.run import tune
from .comfy.types import LossMapType, TunedWeightsType


class TAVTune(Node):
    """One-shot tuning of an inflated MODEL on one clip (Tune-A-Video, section 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVTune",
            display_name="Tune on One Video",
            category="Tune-A-Video",
            description=(
                "Trains a model on the motion of one clip. Takes minutes; the tuned weights are also saved in "
                "models/tune_a_video."
            ),
            search_aliases=["one-shot tuning", "train on video", "fine-tune video", "tune-a-video"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Inflate Model, or any Stable Diffusion 1.x/2.x model (inflated with the defaults).",
                ),
                io.Latent.Input("latent", tooltip="The clip's frames through VAE Encode."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="The source prompt, which describes the clip, through CLIP Text Encode.",
                ),
                *inputs_for(TuningSettings, until="gradient_checkpointing"),
                input_for(
                    TuningSettings,
                    "gradient_checkpointing",
                    options=[AUTOMATIC, *CHECKPOINTING_MODES],
                    default=AUTOMATIC,
                    tooltip=(
                        "all needs the least memory, none is the fastest; automatic takes the fastest that fits the "
                        "free memory. The result is the same."
                    ),
                ),
                io.String.Input(
                    "filename_prefix",
                    default="tuned",
                    tooltip="Name of the weights' file under models/tune_a_video.",
                ),
                input_for(RunSettings, "save_every"),
                *inputs_for(TuningSettings, since="query_rank", until="frames_per_step"),
                input_for(RunSettings, "resume", optional=True),
                *inputs_for(TuningSettings, since="frames_per_step", until="timesteps", optional=True),
                io.Combo.Input(
                    "memory",
                    options=list(PRESETS),
                    default="as set",
                    optional=True,
                    tooltip=(
                        "For a card of this size: reduces the memory with gradient_checkpointing, query_rank and "
                        "frames_per_step until it fits, and logs the choice."
                    ),
                ),
                *inputs_for(TuningSettings, since="timesteps", optional=True),
            ],
            outputs=[
                io.Model.Output(tooltip="The tuned, inflated model."),
                TunedWeightsType.Output(display_name="weights", tooltip="For Save and Apply Tuned Weights."),
                LossMapType.Output(display_name="loss_map", tooltip="Loss per step, for Plot Loss Graph."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return files.prefix_problem(filename_prefix) or True

    @classmethod
    def execute(
        cls, model, latent, positive, filename_prefix, save_every, resume, memory, **settings
    ) -> io.NodeOutput:
        check_model(model)
        latents = check_latents(latent, "latent", least=2)
        context = prompt_embedding(positive, "positive")
        check_conditioning_frames(positive[:1], len(latents), "positive")
        inflation = inflation_of(model) or Inflation()
        if inflation.layers:
            raise ValueError(
                "The input 'model' already carries tuned weights; connect the model as it was before them."
            )
        automatic = settings["gradient_checkpointing"] == AUTOMATIC
        settings = TuningSettings(**settings | ({"gradient_checkpointing": "none"} if automatic else {}))
        run = TuningRun(
            latents,
            context,
            settings,
            inflation.mode,
            RunSettings(save_every, resume),
            prompt=str(cls._upstream("positive", "text") or ""),
            frame_stride=int(cls._upstream("latent", "frame_stride") or 0),
            base_fingerprint=base_fingerprint(model),
        )
        weights = tune(model, run, filename_prefix, memory, automatic, cls.hidden.extra_pnginfo)
        losses = json.loads(weights.metadata.losses)
        return io.NodeOutput(apply_weights(model, weights), weights, {"loss": losses})

    @classmethod
    def _upstream(cls, input_name: str, widget: str) -> object:
        return upstream_value(cls.hidden.prompt, cls.hidden.unique_id, input_name, widget)
