"""DDIM sampling against diffusers' scheduler, inversion against the official loop."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from tav_core.diffusion.ddim import (
    NonFiniteLatentsError,
    ddim_invert,
    ddim_sample,
    ddim_timesteps,
    inversion_sigmas,
    sampling_sigmas,
)
from tav_core.diffusion.schedule import NoiseSchedule

PREDICTIONS = ["epsilon", "v_prediction"]
SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}


def network(x, timestep):
    """A fixed smooth stand-in for a UNet: its answer depends on every input."""
    return torch.tanh(0.6 * x + math.sin(0.01 * timestep)) + 0.2 * x.roll(1, dims=-1)


def model_of(schedule, seen=None, net=network):
    """The k-diffusion view of ``net``; the timesteps it is asked for go to ``seen``."""

    def model(x, sigma):
        assert sigma.shape == (len(x),)
        level = float(sigma[0])
        timestep = schedule.timestep_of(level)
        if seen is not None:
            seen.append(timestep)
        return schedule.denoised(net(x / (1 + level**2) ** 0.5, timestep), x, level)

    return model


def start(seed=0):
    return torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def schedule_of(prediction="epsilon"):
    return NoiseSchedule.scaled_linear(prediction_type=prediction)


def close(actual, expected, limit=1e-5):
    assert float((actual - expected).norm() / expected.norm()) < limit


@pytest.mark.parametrize("steps", [1, 4, 10, 30, 50, 100, 500, 999])
def test_timesteps_are_diffusers_leading_spacing(steps):
    scheduler = DDIMScheduler(**SD, steps_offset=1)
    scheduler.set_timesteps(steps)
    assert ddim_timesteps(steps).flip(0).tolist() == scheduler.timesteps.tolist()


def test_as_many_steps_as_timesteps_stay_within_the_schedule():
    assert ddim_timesteps(1000).tolist() == list(range(1000))


@pytest.mark.parametrize("steps", [1, 2, 333, 501, 998, 999, 1000])
def test_every_count_is_ascending_and_within_the_schedule(steps):
    timesteps = ddim_timesteps(steps)
    assert len(timesteps) == steps
    assert (timesteps.diff() > 0).all()
    assert timesteps[0] >= 0
    assert timesteps[-1] <= 999


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_counts_are_refused(steps):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        ddim_timesteps(steps)


def test_levels_start_at_timestep_0():
    sigmas = schedule_of().sigmas
    assert inversion_sigmas(sigmas, 4).tolist() == sigmas[[0, 1, 251, 501, 751]].tolist()
    assert sampling_sigmas(sigmas, 4).tolist() == sigmas[[751, 501, 251, 1, 0]].tolist()


@pytest.mark.parametrize(("strength", "taken"), [(1.0, 10), (0.5, 5), (0.31, 3), (0.04, 1), (0.0, 1)])
def test_a_strength_is_the_share_of_the_steps_from_the_clean_end(strength, taken):
    sigmas = schedule_of().sigmas
    assert torch.equal(inversion_sigmas(sigmas, 10, strength), inversion_sigmas(sigmas, 10)[: taken + 1])
    assert torch.equal(sampling_sigmas(sigmas, 10, strength), sampling_sigmas(sigmas, 10)[-taken - 1 :])


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_impossible_strengths_are_refused(strength):
    with pytest.raises(ValueError, match="between 0 and 1"):
        inversion_sigmas(schedule_of().sigmas, 10, strength)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 10, 30])
def test_sampling_is_diffusers_ddim_step_by_step(prediction, eta, steps):
    compare_sampling(prediction, eta, steps)


@pytest.mark.parametrize("steps", [500, 999, 1000])
def test_sampling_is_diffusers_ddim_at_large_counts_too(steps):
    compare_sampling("v_prediction", 0.5, steps)


def compare_sampling(prediction, eta, steps):
    schedule = schedule_of(prediction)
    scheduler = DDIMScheduler(**SD, steps_offset=0 if steps == 1000 else 1, prediction_type=prediction)
    scheduler.set_timesteps(steps)
    sigmas = sampling_sigmas(schedule.sigmas, steps)
    fresh = [start(10 + i) for i in range(steps)]
    theirs, x = [], start()
    for i, t in enumerate(scheduler.timesteps.tolist()):
        theirs.append(x)
        x = scheduler.step(network(x, t), t, x, eta=eta, variance_noise=fresh[i]).prev_sample

    reports, seen, remaining = [], [], iter(fresh)
    result = ddim_sample(
        model_of(schedule, seen),
        start() * float((1 + sigmas[0] ** 2).sqrt()),
        sigmas,
        callback=reports.append,
        clean_sigma=float(sigmas[-1]),
        eta=eta,
        noise_sampler=lambda x: next(remaining),
    )
    assert seen == scheduler.timesteps.tolist()
    assert [r["i"] for r in reports] == list(range(steps))
    for report, expected in zip(reports, theirs, strict=True):
        close(report["x"] / float((1 + report["sigma"] ** 2).sqrt()), expected)
    close(result, x)


def official_inversion(x, steps, prediction):
    """The official next_step in a loop: the network sees the source latents and the target timestep."""
    alphas = DDIMScheduler(**SD).alphas_cumprod.double()
    kept = [x]
    for i in range(steps):
        target = 1 + i * (1000 // steps)
        source = min(target - 1000 // steps, 999)
        a = alphas[source] if source >= 0 else alphas[0]
        a_next = alphas[target]
        output = network(x, target)
        if prediction == "v_prediction":
            output = a_next.sqrt() * output + (1 - a_next).sqrt() * x
        clean = (x - (1 - a).sqrt() * output) / a.sqrt()
        x = a_next.sqrt() * clean + (1 - a_next).sqrt() * output
        kept.append(x)
    return kept


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 4, 10, 30, 50, 999])
def test_inversion_is_the_official_loop_step_by_step(prediction, steps):
    schedule = schedule_of(prediction)
    sigmas = inversion_sigmas(schedule.sigmas, steps)
    reports, seen, trajectory = [], [], []
    result = ddim_invert(
        model_of(schedule, seen),
        start(),
        sigmas,
        callback=reports.append,
        clean_sigma=float(sigmas[0]),
        trajectory=trajectory,
    )
    expected = official_inversion(start(), steps, prediction)
    assert seen == ddim_timesteps(steps).tolist()
    for x, sigma, theirs in zip(trajectory, sigmas, expected, strict=True):
        close(x / float((1 + sigma**2).sqrt()), theirs)
    assert torch.equal(result, trajectory[-1])
    # As in sampling, a report comes before its step and has what the network saw: here the latents of the level before.
    assert [r["i"] for r in reports] == list(range(steps))
    for report, theirs in zip(reports, expected, strict=False):
        close(report["x"] / float((1 + report["sigma_hat"] ** 2).sqrt()), theirs)


@pytest.mark.parametrize("steps", [1, 10, 50, 1000])
def test_sampling_undoes_inversion_where_the_noise_is_constant(steps):
    schedule = schedule_of()
    constant = start(5)
    model = model_of(schedule, net=lambda x, t: constant)
    up = inversion_sigmas(schedule.sigmas, steps)
    noisy = ddim_invert(model, start(), up, clean_sigma=float(up[0]))
    clean = ddim_sample(model, noisy, up.flip(0), clean_sigma=float(up[0]))
    close(clean, start(), 1e-6)
    assert float((noisy - start()).norm()) > 1.0 or steps == 1


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("cut", [1, 5, 9])
def test_split_schedules_compose_to_the_whole(prediction, cut):
    schedule = schedule_of(prediction)
    model, up = model_of(schedule), inversion_sigmas(schedule.sigmas, 10)
    down, clean = up.flip(0), float(up[0])
    whole = ddim_invert(model, start(), up, clean_sigma=clean)
    part = ddim_invert(model, start(), up[: cut + 1], clean_sigma=clean)
    assert torch.equal(ddim_invert(model, part, up[cut:], clean_sigma=clean), whole)

    sampled = ddim_sample(model, whole, down, clean_sigma=clean)
    part = ddim_sample(model, whole, down[: cut + 1], clean_sigma=clean)
    assert torch.equal(ddim_sample(model, part, down[cut:], clean_sigma=clean), sampled)


def test_without_a_clean_level_latents_stay_in_the_samplers_scale():
    schedule = schedule_of()
    model, up = model_of(schedule), inversion_sigmas(schedule.sigmas, 4)
    factor = float((1 + up[0] ** 2).sqrt())
    noisy = ddim_invert(model, start(), up, clean_sigma=float(up[0]))
    close(ddim_invert(model, start() * factor, up), noisy, 1e-12)
    clean = ddim_sample(model, noisy, up.flip(0), clean_sigma=1.0)
    close(ddim_sample(model, noisy, up.flip(0)), factor * clean)


def test_sampling_down_to_zero_returns_the_last_denoised():
    schedule = schedule_of()
    sigmas = torch.cat([sampling_sigmas(schedule.sigmas, 4)[:-1], torch.zeros(1)])
    reports = []
    result = ddim_sample(model_of(schedule), start(), sigmas, callback=reports.append, eta=1.0)
    close(result, reports[-1]["denoised"], 1e-12)


def test_eta_0_draws_no_noise_and_eta_1_draws_seeded_noise():
    schedule = schedule_of()
    sigmas = sampling_sigmas(schedule.sigmas, 4)

    def sample(eta, noise_sampler=None):
        return ddim_sample(model_of(schedule), start(), sigmas, eta=eta, noise_sampler=noise_sampler)

    def refuse(x):
        raise AssertionError("no noise is wanted")

    assert torch.equal(sample(0.0, refuse), sample(0.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = sample(1.0)
        torch.manual_seed(1)
        assert torch.equal(sample(1.0), first)
        assert not torch.equal(sample(1.0), first)


def test_no_schedule_changes_nothing_and_extra_arguments_reach_the_model():
    schedule = schedule_of()
    sigmas = sampling_sigmas(schedule.sigmas, 4)
    for sampler, levels in ((ddim_sample, sigmas), (ddim_invert, sigmas.flip(0))):
        assert torch.equal(sampler(model_of(schedule), start(), levels[:1] + 1), start())
        got = []

        def model(x, sigma, seed, got=got):
            got.append(seed)
            return x

        sampler(model, start(), levels, extra_args={"seed": 3})
        assert got == [3] * 4


def test_results_need_no_gradient():
    schedule = schedule_of()
    x = start().requires_grad_()
    sigmas = inversion_sigmas(schedule.sigmas, 2)
    assert not ddim_invert(model_of(schedule), x, sigmas).requires_grad
    assert not ddim_sample(model_of(schedule), x, sigmas.flip(0)).requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_latents_that_are_no_numbers_end_with_the_step(value):
    """Instead of black frames."""

    def model(x, sigma):
        return torch.full_like(x, value) if float(sigma[0]) > 5 else torch.zeros_like(x)

    clip = torch.ones(2, 4, 2, 2)
    with pytest.raises(NonFiniteLatentsError, match="at step 3 of 3 of DDIM inversion; use a bf16 or fp32"):
        ddim_invert(model, clip, torch.tensor([0.03, 1.0, 2.0, 9.0]))
    with pytest.raises(NonFiniteLatentsError, match="at step 1 of 2 of DDIM sampling; use a bf16 or fp32"):
        ddim_sample(model, clip, torch.tensor([9.0, 1.0, 0.03]))
