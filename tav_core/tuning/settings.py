"""The settings of a tuning run (hyper-parameters of the official configs, Tune-A-Video section 4)."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from .lr_scheduler import LR_SCHEDULERS, LRScheduler
from .timesteps import TIMESTEP_SAMPLINGS, TimestepSampling

TrainableSet = Literal["queries + temporal", "temporal", "queries"]
TRAINABLE_SETS: tuple[str, ...] = get_args(TrainableSet)
Checkpointing = Literal["none", "attention", "all"]
CHECKPOINTING_MODES: tuple[str, ...] = get_args(Checkpointing)


@dataclass(frozen=True)
class TuningSettings:
    """What shapes a tuning run.

    The defaults reach in 200 steps the held-out loss that the official code's settings, `official`, reach in 500
    on the small networks of benchmarks/speed/README.md. They differ in steps, timesteps and temporal_lr_scale alone.

    steps: optimiser steps, >= 1. learning_rate: peak rate > 0. lr_warmup_steps: linear warm-up from 0.
    min_snr_gamma: 0 for none, else the gamma of arXiv 2303.09556 (5 is usual).
    gradient_accumulation_steps: draws of noise and timestep per optimiser step.
    query_rank: 0 learns full query matrices, r > 0 low-rank differences.
    gradient_checkpointing: which blocks are computed again in the backward pass to save memory.
    frames_per_step: 0 learns from the whole clip at once, n >= 2 from n consecutive frames per draw, anywhere in
    the clip; each such window is a clip of its own. As many as the clip's or more are the whole clip.
    timesteps: drawn at random, as in the official code, or low-discrepancy, which needs fewer steps. temporal_lr_scale:
    factor > 0 on the learning rate of the temporal layers, which start from nothing.
    """

    steps: int = 200
    learning_rate: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    lr_scheduler: LRScheduler = "constant"
    lr_warmup_steps: int = 0
    min_snr_gamma: float = 0.0
    gradient_accumulation_steps: int = 1
    trainable: TrainableSet = "queries + temporal"
    query_rank: int = 0
    gradient_checkpointing: Checkpointing = "all"
    seed: int = 0
    frames_per_step: int = 0
    timesteps: TimestepSampling = "low-discrepancy"
    temporal_lr_scale: float = 5.0

    def __post_init__(self) -> None:
        for value, known in (
            (self.lr_scheduler, LR_SCHEDULERS),
            (self.trainable, TRAINABLE_SETS),
            (self.gradient_checkpointing, CHECKPOINTING_MODES),
            (self.timesteps, TIMESTEP_SAMPLINGS),
        ):
            if value not in known:
                raise ValueError(f"unknown setting {value!r}; choose one of {', '.join(known)}")
        if min(self.steps, self.gradient_accumulation_steps) < 1 or self.query_rank < 0:
            raise ValueError(
                "steps and gradient_accumulation_steps must be at least 1, and query_rank at least 0"
            )
        if self.frames_per_step < 0 or self.frames_per_step == 1:
            raise ValueError("frames_per_step must be 0 (all frames) or at least 2")
        if not self.temporal_lr_scale > 0:
            raise ValueError("temporal_lr_scale must be above 0")

    @classmethod
    def official(cls, **changes: Any) -> "TuningSettings":
        """The paper's and the official code's settings, with ``changes``."""
        return replace(cls(steps=500, timesteps="random", temporal_lr_scale=1.0), **changes)
