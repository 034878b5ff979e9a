"""The settings of a tuning run (hyper-parameters of the official configs, Tune-A-Video section 4)."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ..settings import Settings, setting
from .lr_scheduler import LR_SCHEDULERS, LRScheduler
from .timesteps import TIMESTEP_SAMPLINGS, TimestepSampling

TrainableSet = Literal["queries + temporal", "temporal", "queries"]
TRAINABLE_SETS: tuple[str, ...] = get_args(TrainableSet)
Checkpointing = Literal["none", "attention", "all"]
CHECKPOINTING_MODES: tuple[str, ...] = get_args(Checkpointing)


@dataclass(frozen=True)
class TuningSettings(Settings):
    """What shapes a tuning run.

    The defaults reach in 200 steps the held-out loss that the official code's settings, `official`, reach in 500
    on the small networks of benchmarks/speed/README.md. They differ in steps, timesteps and temporal_lr_scale alone.

    The order is that of the node's inputs, which saved graphs depend on: add new settings at the end.
    """

    steps: int = setting(
        200, "Optimiser steps. 200 reach the loss of 500 with the paper's settings.", 1, 100_000
    )
    learning_rate: float = setting(
        3e-5,
        "Learning rate. 3e-5 is the paper's; small models need ten times as much.",
        1e-7,
        1e-1,
        step=1e-6,
        precision=1e-8,
    )
    seed: int = setting(0, "The same seed and inputs give the same weights.", 0, 0xFFFFFFFFFFFFFFFF)
    trainable: TrainableSet = setting(
        "queries + temporal",
        "Trained parts: the attention queries and the temporal layers (the paper), or one of them.",
        choices=TRAINABLE_SETS,
    )
    gradient_checkpointing: Checkpointing = setting(
        "all",
        "all needs the least memory, none is the fastest. The result is the same.",
        choices=CHECKPOINTING_MODES,
    )
    query_rank: int = setting(
        0,
        "0 trains full query matrices; 4 to 64 train low-rank differences, for small files.",
        0,
        512,
        advanced=True,
    )
    lr_scheduler: LRScheduler = setting(
        "constant", "Learning-rate schedule over the steps.", choices=LR_SCHEDULERS, advanced=True
    )
    lr_warmup_steps: int = setting(
        0, "Steps over which the learning rate rises from zero.", 0, 100_000, advanced=True
    )
    weight_decay: float = setting(1e-2, "AdamW's weight decay.", 0.0, 1.0, step=0.001, advanced=True)
    max_grad_norm: float = setting(
        1.0, "Gradient clipping: the largest norm of the gradient.", 0.001, 1000.0, step=0.1, advanced=True
    )
    # arXiv 2303.09556
    min_snr_gamma: float = setting(
        0.0,
        "Min-SNR loss weighting; 5 is usual. 0 weights all noise levels equally, as in the paper.",
        0.0,
        100.0,
        step=0.5,
        advanced=True,
    )
    gradient_accumulation_steps: int = setting(
        1, "Noise draws per optimiser step: a steadier loss, that many times slower.", 1, 64, advanced=True
    )
    frames_per_step: int = setting(
        0,
        "For long clips: each step trains on this many consecutive frames from anywhere in the clip, which limits the "
        "memory. 0 takes all frames.",
        0,
        1024,
        advanced=True,
    )
    timesteps: TimestepSampling = setting(
        "low-discrepancy",
        "How noise levels are drawn: low-discrepancy covers them evenly in short runs; random is the paper's. "
        "Changes the result.",
        choices=TIMESTEP_SAMPLINGS,
        advanced=True,
    )
    temporal_lr_scale: float = setting(
        5.0,
        "Factor on the learning rate of the temporal layers, which start at zero. 1 is the paper's, 5 needs fewer "
        "steps. Changes the result.",
        0.01,
        100.0,
        step=0.1,
        advanced=True,
    )
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames_per_step == 1:
            raise ValueError("frames_per_step must be 0 (all frames) or at least 2")

    @classmethod
    def official(cls, **changes: Any) -> "TuningSettings":
        """The paper's and the official code's settings, with ``changes``."""
        return replace(cls(steps=500, timesteps="random", temporal_lr_scale=1.0), **changes)


@dataclass(frozen=True)
class RunSettings(Settings):
    """How a tuning run is kept on disk; nothing of it changes the result."""

    save_every: int = setting(
        100,
        "Interval of intermediate saves, in steps; 0 saves at the end only. Stopping always saves.",
        0,
        100_000,
        advanced=True,
    )
    resume: bool = setting(
        True,
        "Resumes a stopped run with the same inputs, and loads the file of a finished one instead of tuning again. "
        "Off always starts anew.",
        advanced=True,
    )
