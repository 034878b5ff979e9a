"""Tune on One Video."""

import json

from comfy_api.latest import io

from ..tav_core.files.weights import TunedMetadata
from ..tav_core.tuning.lr_scheduler import LR_SCHEDULERS
from ..tav_core.tuning.settings import CHECKPOINTING_MODES, TRAINABLE_SETS, TuningSettings
from ..tav_core.tuning.timesteps import TIMESTEP_SAMPLINGS
from .comfy import files
from .comfy.checks import check_conditioning_frames, check_latents, check_numbers, prompt_embedding
from .comfy.graph import upstream_value
from .comfy.model.apply import apply_weights
from .comfy.model.base import base_fingerprint
from .comfy.model.inflate import Inflation, inflation_of
from .comfy.model.kinds import check_model
from .comfy.tuning.memory import AUTOMATIC, PRESETS
from .comfy.tuning.run import tune
from .comfy.types import LossMapType, TunedWeightsType


class TAVTune(io.ComfyNode):
    """One-shot tuning of an inflated MODEL on one clip (Tune-A-Video, section 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = TuningSettings()
        return io.Schema(
            node_id="TAVTune",
            display_name="Tune on One Video",
            category="Tune-A-Video",
            description=(
                "Teaches a model the motion of one clip. Takes minutes; the result is a small set of weights, "
                "also saved to models/tune_a_video."
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
                    tooltip="One sentence that says what the clip shows, through CLIP Text Encode.",
                ),
                io.Int.Input(
                    "steps",
                    default=defaults.steps,
                    min=1,
                    max=100_000,
                    tooltip="Optimiser steps. 200 learn as much as 500 with the paper's settings.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=defaults.learning_rate,
                    min=1e-7,
                    max=1e-1,
                    step=1e-6,
                    round=1e-8,
                    tooltip="Step size. 3e-5 is the paper's; small models take ten times that.",
                ),
                io.Int.Input(
                    "seed",
                    default=defaults.seed,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="The same seed and inputs give the same weights.",
                ),
                io.Combo.Input(
                    "trainable",
                    options=list(TRAINABLE_SETS),
                    default=defaults.trainable,
                    tooltip=(
                        "What learns: the attention queries and the temporal layers (the paper), or one of them."
                    ),
                ),
                io.Combo.Input(
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
                    tooltip="Name under models/tune_a_video for the weights, saved as they are made.",
                ),
                io.Int.Input(
                    "save_every",
                    default=100,
                    min=0,
                    max=100_000,
                    tooltip="Also save every so many steps; 0 saves at the end only. Stopping always saves.",
                    advanced=True,
                ),
                io.Int.Input(
                    "query_rank",
                    default=defaults.query_rank,
                    min=0,
                    max=512,
                    tooltip="0 learns full query matrices; 4 to 64 learn low-rank differences, for small files.",
                    advanced=True,
                ),
                io.Combo.Input(
                    "lr_scheduler",
                    options=list(LR_SCHEDULERS),
                    default=defaults.lr_scheduler,
                    tooltip="How the learning rate goes over the steps.",
                    advanced=True,
                ),
                io.Int.Input(
                    "lr_warmup_steps",
                    default=defaults.lr_warmup_steps,
                    min=0,
                    max=100_000,
                    tooltip="Steps over which the learning rate rises from zero.",
                    advanced=True,
                ),
                io.Float.Input(
                    "weight_decay",
                    default=defaults.weight_decay,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="AdamW's weight decay.",
                    advanced=True,
                ),
                io.Float.Input(
                    "max_grad_norm",
                    default=defaults.max_grad_norm,
                    min=0.001,
                    max=1000.0,
                    step=0.1,
                    tooltip="Gradients longer than this are shortened to it.",
                    advanced=True,
                ),
                io.Float.Input(
                    "min_snr_gamma",
                    default=defaults.min_snr_gamma,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    tooltip="0 weighs all noise levels alike, as the paper; 5 evens out their pull (min-SNR).",
                    advanced=True,
                ),
                io.Int.Input(
                    "gradient_accumulation_steps",
                    default=defaults.gradient_accumulation_steps,
                    min=1,
                    max=64,
                    tooltip="Noise draws per step: steadier and as many times slower.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    optional=True,
                    tooltip=(
                        "With the same inputs, goes on where a stopped run left off, and takes the file of a "
                        "finished one instead of tuning again. Off always tunes from the start."
                    ),
                    advanced=True,
                ),
                io.Int.Input(
                    "frames_per_step",
                    default=defaults.frames_per_step,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip=(
                        "For long clips: learn from so many consecutive frames at a time, anywhere in the clip, "
                        "which bounds the memory. 0 takes all frames."
                    ),
                    advanced=True,
                ),
                io.Combo.Input(
                    "memory",
                    options=list(PRESETS),
                    default="as set",
                    optional=True,
                    tooltip=(
                        "For a card of this size: takes gradient_checkpointing, query_rank and frames_per_step down "
                        "as far as it takes, and says so in the log."
                    ),
                ),
                io.Combo.Input(
                    "timesteps",
                    options=list(TIMESTEP_SAMPLINGS),
                    default=defaults.timesteps,
                    optional=True,
                    tooltip=(
                        "How noise levels are drawn: low-discrepancy, steadier in short runs, or at random as in "
                        "the paper. Changes the result."
                    ),
                    advanced=True,
                ),
                io.Float.Input(
                    "temporal_lr_scale",
                    default=defaults.temporal_lr_scale,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    tooltip=(
                        "Factor on the learning rate of the temporal layers, which start from nothing. "
                        "1 is the paper's, 5 needs fewer steps. Changes the result."
                    ),
                    advanced=True,
                ),
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
        cls, model, latent, positive, filename_prefix, save_every, resume=True, memory="as set", **settings
    ) -> io.NodeOutput:
        numbers = {name: value for name, value in settings.items() if not isinstance(value, str)}
        check_numbers(cls, save_every=save_every, **numbers)
        check_model(model)
        latents = check_latents(latent, "latent", least=2)
        context = prompt_embedding(positive, "positive")
        check_conditioning_frames(positive[:1], len(latents), "positive")
        inflation = inflation_of(model) or Inflation()
        if inflation.layers:
            raise ValueError(
                "The input 'model' already carries tuned weights; connect the model as it was before them."
            )
        mode = inflation.mode
        automatic = settings["gradient_checkpointing"] == AUTOMATIC
        settings = TuningSettings(**settings | ({"gradient_checkpointing": "none"} if automatic else {}))
        metadata = TunedMetadata(
            base_fingerprint=base_fingerprint(model),
            prompt=str(cls._upstream("positive", "text") or ""),
            frames=latents.shape[0],
            width=latents.shape[3] * 8,
            height=latents.shape[2] * 8,
            frame_stride=int(cls._upstream("latent", "frame_stride") or 0),
            learning_rate=settings.learning_rate,
            trainable=settings.trainable,
            attention=mode.attention,
            norm=mode.norm,
            seed=settings.seed,
        )
        weights = tune(
            model,
            latents,
            context,
            settings,
            mode,
            metadata,
            filename_prefix,
            save_every,
            resume,
            memory,
            automatic,
            cls.hidden.extra_pnginfo,
        )
        losses = json.loads(weights.metadata.losses)
        return io.NodeOutput(apply_weights(model, weights), weights, {"loss": losses})

    @classmethod
    def _upstream(cls, input_name: str, widget: str) -> object:
        return upstream_value(cls.hidden.prompt, cls.hidden.unique_id, input_name, widget)
