"""Latents that DDIM inversion made: making them, telling them, and starting sampling from them."""

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....tav_core.diffusion.blend import LatentBlend, latent_mask
from .sampling import (
    ddim_sampler,
    inversion_sampler,
    inversion_sigmas,
    run_sampler,
    sampling_sigmas,
)

# Marks a LATENT as inverted: the noise level it was carried to, the share of the way to noise that this is, and the
# sum of its values, because core's nodes hand the mark on with results of their own.
MARK = "tune_a_video_inverted"
# The inverted latents of every level from the clean end on, in the network's scale, where asked for.
TRAJECTORY = "tune_a_video_trajectory"

STARTS = ("inverted clip", "random noise", "one noise for all frames")


def invert(
    model: ModelPatcher,
    positive: list,
    negative: list,
    cfg: float,
    latent: dict,
    steps: int,
    keep_trajectory: bool = False,
    strength: float = 1.0,
) -> dict:
    """DDIM inversion of clean latents; the result is in ComfyUI's scale x_0 + sigma noise.

    ``strength`` in 0..1 is how much of the way to noise they go.
    """
    sigmas = inversion_sigmas(model, steps, strength)
    # A mask would keep ComfyUI from carrying the masked part along.
    latent = {key: value for key, value in latent.items() if key != "noise_mask"}
    trajectory: list[Tensor] = []
    if keep_trajectory:
        trajectory.append(model.model.process_latent_in(latent["samples"]) * (1 + sigmas[0] ** 2).sqrt())
    result = run_sampler(
        model,
        inversion_sampler(),
        sigmas,
        positive,
        negative,
        cfg,
        latent,
        "inversion",
        on_step=(lambda reached: trajectory.append(reached.cpu().clone())) if keep_trajectory else None,
    )
    result[MARK] = (float(sigmas[-1]), strength, _sum(result["samples"]))
    if keep_trajectory:
        result[TRAJECTORY] = trajectory
    return result


def sample(
    model: ModelPatcher,
    positive: list,
    negative: list,
    cfg: float,
    latent: dict,
    steps: int,
    eta: float,
    seed: int,
    start: str,
    mask: Tensor | None = None,
) -> dict:
    """DDIM sampling from one of `STARTS`, in ComfyUI's scale; outside of ``mask`` the source stays.

    Latents that were carried a part of the way to noise are sampled from there. Raises ValueError if ``latent`` is not
    inverted, or lacks the trajectory that a mask needs.
    """
    inverted = start == "inverted clip"
    sigmas = sampling_sigmas(model, steps, _mark(latent)[1] if inverted else 1.0)
    after_step = None if mask is None else _keep_outside(mask, latent, len(sigmas) - 1)
    if inverted:
        samples = at_level(model, latent, float(sigmas[0]))
    else:
        samples = noise(model, latent["samples"], seed, float(sigmas[0]), shared=start != "random noise")
    # ComfyUI would hold the masked part at its start, which here is noise.
    ours = (MARK, TRAJECTORY, "noise_mask")
    latent = {key: value for key, value in latent.items() if key not in ours} | {"samples": samples}
    sampler = ddim_sampler(eta, after_step)
    return run_sampler(model, sampler, sigmas, positive, negative, cfg, latent, "sampling", seed)


def _keep_outside(mask: Tensor, latent: dict, steps: int) -> LatentBlend:
    trajectory = latent.get(TRAJECTORY)
    if trajectory is None:
        raise ValueError(
            "The input 'mask' needs the clip's way to noise; turn keep_trajectory on in DDIM Inversion."
        )
    if len(trajectory) != steps + 1:
        raise ValueError(
            f"The input 'mask' needs the inversion's number of steps: it took {len(trajectory) - 1} on its way, "
            f"and sampling would take {steps}."
        )
    frames, _, height, width = latent["samples"].shape
    try:
        return LatentBlend(trajectory, latent_mask(mask, frames, height, width))
    except ValueError as error:
        raise ValueError(f"The input 'mask' does not fit: {error}.") from error


def at_level(model: ModelPatcher, latent: dict, sigma: float) -> Tensor:
    """The inverted latents at the level ``sigma``, from which sampling with another step count may start.

    The network sees x / sqrt(1 + sigma^2); that is what stays the same, as in the official code. Raises ValueError
    for latents that are not noise.
    """
    samples = latent["samples"]
    level, _ = _mark(latent)
    if level is None:
        # Noise is about as wide as its level, a clean clip about 1 wide.
        spread = float(model.model.process_latent_in(samples).std())
        if 0.3 < spread < min(2.0, sigma / 3):
            raise ValueError(
                "The input 'latent' is a clean clip, not inverted noise; connect DDIM Inversion, "
                "or set 'start' to random noise."
            )
        return samples
    scale = ((1 + sigma**2) / (1 + level**2)) ** 0.5
    return samples if scale == 1.0 else _rescaled(model, samples, scale)


def _mark(latent: dict) -> tuple[float | None, float]:
    """The level and the strength that latents were inverted to; (None, 1.0) if that is not known of them."""
    level, strength, checksum = latent.get(MARK, (None, 1.0, None))
    return (level, strength) if checksum == _sum(latent["samples"]) else (None, 1.0)


def noise(model: ModelPatcher, like: Tensor, seed: int, sigma: float, shared: bool) -> Tensor:
    """Gaussian noise shaped as ``like`` at the level ``sigma``; ``shared`` gives every frame the same."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, *like.shape[1:]) if shared else like.shape
    fresh = torch.randn(shape, generator=generator).expand(like.shape) * (1 + sigma**2) ** 0.5
    return model.model.process_latent_out(fresh)


def _sum(samples: Tensor) -> float:
    return float(samples.cpu().double().sum())


def _rescaled(model: ModelPatcher, samples: Tensor, scale: float) -> Tensor:
    inner = model.model
    return inner.process_latent_out(inner.process_latent_in(samples) * scale)
