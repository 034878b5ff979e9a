"""Learning-rate schedulers as pure functions of the step."""

import math
from typing import Literal, get_args

LRScheduler = Literal["constant", "cosine", "linear"]
LR_SCHEDULERS: tuple[str, ...] = get_args(LRScheduler)


def lr_factor(scheduler: LRScheduler, step: int, steps: int, lr_warmup_steps: int = 0) -> float:
    """Factor in 0..1 on the peak rate for ``step`` in 0..steps-1: linear warm-up, then the scheduler to 0."""
    if step < lr_warmup_steps:
        return (step + 1) / (lr_warmup_steps + 1)
    if scheduler == "constant":
        return 1.0
    progress = (step - lr_warmup_steps) / max(1, steps - lr_warmup_steps)
    if scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if scheduler == "linear":
        return 1.0 - progress
    raise ValueError(f"unknown scheduler {scheduler!r}; choose one of {', '.join(LR_SCHEDULERS)}")
