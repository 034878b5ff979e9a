"""Learning-rate schedules as pure functions of the step."""

import math
from typing import Literal, get_args

LearningRateSchedule = Literal["constant", "cosine", "linear"]
LEARNING_RATE_SCHEDULES: tuple[str, ...] = get_args(LearningRateSchedule)


def learning_rate_factor(
    schedule: LearningRateSchedule, step: int, steps: int, warmup_steps: int = 0
) -> float:
    """Factor in 0..1 on the peak rate for ``step`` in 0..steps-1: linear warm-up, then the schedule to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule == "linear":
        return 1.0 - progress
    raise ValueError(f"unknown schedule {schedule!r}; choose one of {', '.join(LEARNING_RATE_SCHEDULES)}")
