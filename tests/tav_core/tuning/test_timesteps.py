"""Timesteps that cover the schedule evenly."""

import pytest
import torch

from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.timesteps import low_discrepancy_timestep
from tav_core.tuning.tuner import Tuner


@pytest.mark.parametrize("offset", [0.0, 0.37, 0.999])
@pytest.mark.parametrize("count", [10, 55, 200])
def test_every_stretch_of_the_sequence_covers_the_schedule(offset, count):
    for start in (0, 1000):
        drawn = sorted(low_discrepancy_timestep(start + i, offset, 1000) for i in range(count))
        assert drawn[0] >= 0
        assert drawn[-1] <= 999
        gaps = [b - a for a, b in zip([-1, *drawn], [*drawn, 1000], strict=True)]
        assert max(gaps) < 2.7 * 1000 / count  # random draws leave gaps of ln(count) times the mean


def test_seeds_start_elsewhere_and_the_noise_is_that_of_random_timesteps(host, clip, context):
    def draws(seed, timesteps):
        settings = TuningSettings(seed=seed, timesteps=timesteps)
        tuner = Tuner(host, clip, context, settings)
        return [tuner._draw(i) for i in range(20)]

    spread, other, random = draws(0, "low-discrepancy"), draws(1, "low-discrepancy"), draws(0, "random")
    assert [t for t, _ in spread] != [t for t, _ in other]
    assert [t for t, _ in spread] != [t for t, _ in random]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(spread, random, strict=True))


def test_a_stopped_run_goes_on_bit_for_bit(host, clip, context):
    settings = TuningSettings(
        steps=4,
        learning_rate=1e-3,
        timesteps="low-discrepancy",
        temporal_lr_scale=3.0,
        gradient_checkpointing="none",
    )
    with Tuner(host, clip, context, settings) as whole:
        for _ in range(4):
            whole.step()
    with Tuner(host, clip, context, settings) as first:
        first.step()
        state = first.state()
    with Tuner(host, clip, context, settings) as second:
        second.restore(state)
        for _ in range(3):
            second.step()
    assert whole.losses == second.losses
    assert all(torch.equal(a, second.tensors()[name]) for name, a in whole.tensors().items())


def test_the_temporal_layers_have_a_rate_of_their_own(host, clip, context):
    def change(factor):
        settings = TuningSettings(
            learning_rate=1e-4, temporal_lr_scale=factor, weight_decay=0.0, gradient_checkpointing="none"
        )
        with Tuner(host, clip, context, settings) as tuner:
            before = {name: p.detach().clone() for name, p in tuner.parameters.items()}
            tuner.step()
        return {name: p.detach() - before[name] for name, p in tuner.parameters.items()}

    once, more = change(1.0), change(10.0)
    for name, delta in once.items():
        factor = 10.0 if ".attn_temp." in name else 1.0
        torch.testing.assert_close(more[name], factor * delta, rtol=1e-2, atol=1e-6)
