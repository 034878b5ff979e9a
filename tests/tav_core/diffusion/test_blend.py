"""The outside of a mask stays the source's."""

import pytest
import torch

from tav_core.diffusion.blend import LatentBlend, latent_mask
from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.diffusion.schedule import NoiseSchedule


def denoiser(shift):
    return lambda x, sigma: 0.8 * torch.tanh(x) + shift


def test_outside_is_the_source_exactly_and_inside_is_not():
    schedule = NoiseSchedule.scaled_linear()
    clean = float(schedule.sigmas[0])
    source = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    up, down = inversion_sigmas(schedule.sigmas, 5), sampling_sigmas(schedule.sigmas, 5)
    trajectory = []
    noise = ddim_invert(denoiser(0.0), source, up, clean_sigma=clean, trajectory=trajectory)
    mask = torch.zeros(1, 48, 48)
    mask[:, 16:32, 17:30] = 1.0
    cells = latent_mask(mask, 3, 6, 6)
    assert cells.shape == (1, 1, 6, 6)
    assert cells[0, 0].nonzero().tolist() == [[r, c] for r in (2, 3) for c in (2, 3)]
    edited = ddim_sample(
        denoiser(0.5), noise, down, clean_sigma=clean, after_step=LatentBlend(trajectory, cells)
    )
    outside = (cells == 0).expand_as(edited)
    assert torch.allclose(edited[outside], source[outside], atol=1e-6)
    assert float((edited - source)[~outside].abs().mean()) > 0.05


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 frames but the clip has 3"):
        latent_mask(torch.ones(2, 8, 8), 3, 1, 1)
