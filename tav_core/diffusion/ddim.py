"""DDIM (arXiv 2010.02502) inversion and sampling, with k-diffusion's sampler signature.

``model(x, sigma, **extra_args)`` returns the denoised latents of ``x`` (F, C, H, W) = x_0 + sigma noise, where
``sigma`` is (F,).

``callback`` is k-diffusion's, in both directions: it is called once per step, between the evaluation of the network
and the step, with a dict of

- ``i``, the step's number from 0, and ``sigma``, the level ``sigmas[i]`` that the step starts from;
- ``sigma_hat``, the level that the network was evaluated at: ``sigma`` in sampling, the next level in inversion;
- ``x``, the latents that the network saw, at the level ``sigma_hat``, and ``denoised``, its answer.

Latents after a step are not its business: inversion collects them in ``trajectory``, sampling passes them through
``after_step``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[..., Tensor]


class NonFiniteLatentsError(ValueError):
    """Latents became NaN or infinite, which would end as black frames."""


def ddim_timesteps(steps: int, train_timesteps: int = 1000) -> Tensor:
    """(steps,) int64 ascending: i * (T // steps) + 1, the "leading" spacing of Stable Diffusion's DDIM.

    With ``steps`` = T the offset of one would leave the schedule, so there it is zero. Counts that divide T
    cover the whole schedule; others stop below its noisy end (30 steps: 958).
    Raises ValueError for counts outside 1..T.
    """
    if not 1 <= steps <= train_timesteps:
        raise ValueError(f"DDIM steps must be between 1 and {train_timesteps}, not {steps}")
    offset = 0 if steps == train_timesteps else 1
    return torch.arange(steps) * (train_timesteps // steps) + offset


def inversion_sigmas(schedule_sigmas: Tensor, steps: int, strength: float = 1.0) -> Tensor:
    """(steps + 1,) ascending noise levels for `ddim_invert`; the clean end is the level of timestep 0.

    Stable Diffusion's DDIM (set_alpha_to_one=False) counts latents of timestep 0's level as clean. ``strength``
    below 1 stops after that share of the steps, at least one, where the latents still show the clip (SDEdit,
    arXiv 2108.01073, does so with fresh noise). Raises ValueError for a strength outside of 0..1.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"the strength must be between 0 and 1, not {strength}")
    timesteps = ddim_timesteps(steps, len(schedule_sigmas))[: max(1, round(strength * steps))]
    return torch.cat([schedule_sigmas[:1], schedule_sigmas[timesteps.to(schedule_sigmas.device)]])


def sampling_sigmas(schedule_sigmas: Tensor, steps: int, strength: float = 1.0) -> Tensor:
    """Descending noise levels for `ddim_sample`, the reverse of `inversion_sigmas`."""
    return inversion_sigmas(schedule_sigmas, steps, strength).flip(0)


def level_scale(sigma: float, other: float) -> float:
    """The factor that takes latents x_0 + sigma noise to the level ``other``, to go on with another step count.

    The network sees x / sqrt(1 + sigma^2); that is what stays the same, as in the official code.
    """
    return ((1 + other**2) / (1 + sigma**2)) ** 0.5


@torch.no_grad()
def ddim_invert(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict | None = None,
    callback: Callable | None = None,
    disable: bool | None = None,
    clean_sigma: float = 0.0,
    trajectory: list[Tensor] | None = None,
) -> Tensor:
    """Carries latents up the ascending ``sigmas`` to noise from which sampling rebuilds them (Tune-A-Video, 3.3).

    As in the official code, the network is evaluated at the *source* latents with the *target* timestep.
    ``x`` at or below the level ``clean_sigma`` is clean data in the network's scale; above, it is x_0 + sigma
    noise, which is also the scale of the result. A list given as ``trajectory`` gets the latents of every level of
    ``sigmas``, in the result's scale, on the CPU. Raises NonFiniteLatentsError.
    """
    extra_args = extra_args or {}
    if sigmas[0] <= clean_sigma * (1 + 1e-4):
        x = x * (1 + sigmas[0] ** 2).sqrt()
    ones = x.new_ones([x.shape[0]])
    if trajectory is not None:
        trajectory.append(x.cpu())
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        source = x * ((1 + sigma_next**2) / (1 + sigma**2)).sqrt()
        denoised = model(source, sigma_next * ones, **extra_args)
        if callback is not None:
            callback({"x": source, "i": i, "sigma": sigma, "sigma_hat": sigma_next, "denoised": denoised})
        noise = (source - denoised) / sigma_next
        x = x + noise * (sigma_next - sigma)
        _check(x, "inversion", i, len(sigmas) - 1)
        if trajectory is not None:
            trajectory.append(x.cpu())
    return x


@torch.no_grad()
def ddim_sample(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict | None = None,
    callback: Callable | None = None,
    disable: bool | None = None,
    clean_sigma: float = 0.0,
    eta: float = 0.0,
    noise_sampler: Callable[[Tensor], Tensor] | None = None,
    after_step: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Carries latents x_0 + sigma noise down the descending ``sigmas`` (arXiv 2010.02502, eq. 12).

    ``eta`` in 0..1 mixes fresh noise from ``noise_sampler(x)`` in; 0 is deterministic, 1 is DDPM. A run that
    ends at or below ``clean_sigma`` returns clean latents in the network's scale, as the official code does.
    ``after_step(i, x)`` gets the latents after step ``i`` and returns those to go on with; see
    `tav_core.diffusion.blend`. Raises NonFiniteLatentsError.
    """
    extra_args = extra_args or {}
    noise_sampler = noise_sampler or torch.randn_like
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        denoised = model(x, sigma * ones, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        noise = (x - denoised) / sigma
        fresh = eta * sigma_next * (1 - (sigma_next / sigma) ** 2).clamp_min(0).sqrt()
        x = denoised + noise * (sigma_next**2 - fresh**2).sqrt()
        if eta > 0 and fresh > 0:
            x = x + noise_sampler(x) * fresh
        _check(x, "sampling", i, len(sigmas) - 1)
        if after_step is not None:
            x = after_step(i, x)
    if sigmas[-1] <= clean_sigma * (1 + 1e-4):
        x = x / (1 + sigmas[-1] ** 2).sqrt()
    return x


def _check(x: Tensor, what: str, i: int, steps: int) -> None:
    if not bool(torch.isfinite(x).all()):
        raise NonFiniteLatentsError(
            f"The latents are no longer finite numbers at step {i + 1} of {steps} of DDIM {what}; "
            "use a bf16 or fp32 model, or a lower cfg."
        )
