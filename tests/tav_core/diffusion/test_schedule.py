"""The noise schedule and the conversions between what a network says and clean latents."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from tav_core.diffusion.schedule import NoiseSchedule

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTIONS = ["epsilon", "v_prediction"]


@pytest.fixture(scope="module")
def schedule():
    return NoiseSchedule.scaled_linear()


def test_stable_diffusions_schedule_is_diffusers(schedule):
    assert torch.equal(schedule.alphas_cumprod, DDIMScheduler(**SD).alphas_cumprod)
    assert schedule.timesteps == 1000


def test_sigmas_are_noise_to_signal_ratios(schedule):
    assert schedule.sigmas[0] == pytest.approx(0.029167, rel=1e-3)
    assert schedule.sigmas[-1] == pytest.approx(14.6146, rel=1e-4)
    assert (schedule.sigmas.diff() > 0).all()
    for t in (0, 500, 999):
        assert schedule.snr(t) == pytest.approx(1 / float(schedule.sigmas[t]) ** 2, rel=1e-5)


def test_from_sigmas_is_the_inverse_of_sigmas(schedule):
    again = NoiseSchedule.from_sigmas(schedule.sigmas, "v_prediction")
    assert again.prediction_type == "v_prediction"
    assert again.alphas_cumprod.dtype == torch.float32
    torch.testing.assert_close(again.alphas_cumprod, schedule.alphas_cumprod, rtol=1e-6, atol=0)


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_noise_and_targets_are_diffusers(schedule, timestep):
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ddpm, t = DDPMScheduler(**SD), torch.tensor([timestep] * 3)
    torch.testing.assert_close(schedule.add_noise(x0, noise, timestep), ddpm.add_noise(x0, noise, t))
    assert torch.equal(schedule.target(x0, noise, timestep), noise)
    velocity = NoiseSchedule(schedule.alphas_cumprod, "v_prediction").target(x0, noise, timestep)
    torch.testing.assert_close(velocity, ddpm.get_velocity(x0, noise, t))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("timestep", [0, 300, 999])
def test_a_perfect_network_is_denoised_to_the_clean_latents(prediction, timestep):
    schedule = NoiseSchedule.scaled_linear(prediction_type=prediction)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sigma = float(schedule.sigmas[timestep])
    denoised = schedule.denoised(schedule.target(x0, noise, timestep), x0 + sigma * noise, sigma)
    torch.testing.assert_close(denoised, x0, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_schedule_is_refused(schedule, timestep):
    with pytest.raises(ValueError, match=rf"timestep {timestep} is outside 0..999"):
        schedule.add_noise(torch.zeros(1), torch.zeros(1), timestep)


def test_timestep_of_every_sigma_is_its_timestep(schedule):
    assert [schedule.timestep_of(float(s)) for s in schedule.sigmas] == list(range(1000))


def test_timestep_of_is_nearest_on_a_logarithmic_axis(schedule):
    low, high = (float(s) for s in schedule.sigmas[:2])
    middle = (low * high) ** 0.5
    assert schedule.timestep_of(middle * 0.999) == 0
    assert schedule.timestep_of(middle * 1.001) == 1
    assert schedule.timestep_of(0.0) == 0
    assert schedule.timestep_of(1e6) == 999
