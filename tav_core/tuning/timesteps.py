"""Which timesteps tuning learns at."""

from typing import Literal, get_args

TimestepSampling = Literal["random", "low-discrepancy"]
TIMESTEP_SAMPLINGS: tuple[str, ...] = get_args(TimestepSampling)

_GOLDEN = (5**0.5 - 1) / 2


def low_discrepancy_timestep(index: int, offset: float, timesteps: int) -> int:
    """The ``index``-th timestep in 0..timesteps-1 of a sequence that covers all noise levels evenly at any length.

    The golden ratio's additive recurrence, the one-dimensional sequence of lowest discrepancy of its kind;
    ``offset`` in 0..1 is where it starts.
    """
    return int((offset + index * _GOLDEN) % 1.0 * timesteps)
