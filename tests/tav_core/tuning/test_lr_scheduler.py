"""Learning-rate schedules."""

import math

import pytest
import torch
from diffusers.optimization import get_scheduler

from tav_core.tuning.lr_scheduler import LR_SCHEDULERS, lr_factor


def factors(schedule, steps, warmup=0):
    return [lr_factor(schedule, i, steps, warmup) for i in range(steps)]


def test_values_by_hand():
    assert factors("constant", 3) == [1.0, 1.0, 1.0]
    assert factors("linear", 4) == [1.0, 0.75, 0.5, 0.25]
    half = math.sqrt(0.5)
    assert factors("cosine", 4) == pytest.approx([1.0, (1 + half) / 2, 0.5, (1 - half) / 2])
    assert factors("linear", 6, 2) == pytest.approx([1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("schedule", LR_SCHEDULERS)
def test_after_the_warm_up_equal_to_diffusers(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=20)
    for factor in factors(schedule, 20):
        assert factor == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", LR_SCHEDULERS)
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (10, 0), (10, 3), (10, 9), (5, 10)])
def test_every_step_learns_and_none_above_the_peak(schedule, steps, warmup):
    values = factors(schedule, steps, warmup)
    assert all(0 < value <= 1 for value in values)
    rising = values[: warmup + 1]
    assert rising == sorted(rising)
    assert values[warmup:] == sorted(values[warmup:], reverse=True)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match=r"'sawtooth'.*constant, cosine, linear"):
        lr_factor("sawtooth", 0, 10)
