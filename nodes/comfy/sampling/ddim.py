"""DDIM on a MODEL: a clip's LATENT inverted to noise and sampled from it, by ComfyUI's own sampling.

ControlNet, area conditions, interrupts and other patches of the MODEL work as with any of ComfyUI's samplers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....tav_core.diffusion import ddim
from ....tav_core.diffusion.blend import LatentBlend, latent_mask
from ..page.live import Reporter
from ..progress import progress
from .preview import ClipPreview

# Entries of a LATENT that was inverted. The first holds its noise level, the strength it was inverted with, and the
# sum of its values: core's nodes hand unknown entries on with results of their own, and the sum tells those apart.
INVERTED = "tune_a_video_inverted"
# The latents of every level from the clean end on, in the network's scale, where asked for.
TRAJECTORY = "tune_a_video_trajectory"

STARTS = ("inverted clip", "random noise", "one noise for all frames")


@dataclass(frozen=True)
class Guidance:
    """Two CONDITIONINGs and the scale of classifier-free guidance between them; 1 leaves ``negative`` out."""

    positive: list
    negative: list
    cfg: float


def inversion_sampler(trajectory: list[Tensor] | None = None) -> comfy.samplers.KSAMPLER:
    """DDIM inversion as a SAMPLER for ascending sigmas; ``trajectory`` as in `tav_core.diffusion.ddim.ddim_invert`."""
    return _sampler(ddim.ddim_invert, trajectory=trajectory)


def ddim_sampler(eta: float = 0.0, after_step: Callable | None = None) -> comfy.samplers.KSAMPLER:
    """DDIM with ``eta`` in 0..1 as a SAMPLER; ``after_step`` as in `tav_core.diffusion.ddim.ddim_sample`."""

    def sample(model, x, sigmas, extra_args=None, *rest, **options) -> Tensor:
        generator = torch.Generator().manual_seed((extra_args or {}).get("seed") or 0)
        options["noise_sampler"] = lambda like: torch.randn(like.shape, generator=generator).to(like)
        return ddim.ddim_sample(model, x, sigmas, extra_args, *rest, **options)

    return _sampler(sample, eta=eta, after_step=after_step)


def _sampler(function: Callable, **options: object) -> comfy.samplers.KSAMPLER:
    """``function`` as a SAMPLER that knows which noise level the sampled model counts as clean."""

    def sampler(model, x, sigmas, *rest, **options) -> Tensor:
        clean = float(model.inner_model.model_patcher.get_model_object("model_sampling").sigmas[0])
        return function(model, x, sigmas, *rest, clean_sigma=clean, **options)

    return comfy.samplers.KSAMPLER(sampler, extra_options=options)


def inversion_sigmas(model: ModelPatcher, steps: int, strength: float = 1.0) -> Tensor:
    """Ascending sigmas of ``model``'s schedule: `tav_core.diffusion.ddim.inversion_sigmas`."""
    return ddim.inversion_sigmas(model.get_model_object("model_sampling").sigmas.cpu(), steps, strength)


def sampling_sigmas(model: ModelPatcher, steps: int, strength: float = 1.0) -> Tensor:
    """Descending sigmas of ``model``'s schedule: `tav_core.diffusion.ddim.sampling_sigmas`."""
    return inversion_sigmas(model, steps, strength).flip(0)


def invert(
    model: ModelPatcher,
    guidance: Guidance,
    latent: dict,
    steps: int,
    strength: float,
    keep_trajectory: bool,
    reporter: Reporter,
) -> dict:
    """DDIM inversion of clean latents; the result is in ComfyUI's scale x_0 + sigma noise.

    ``strength`` in 0..1 is the share of the way to noise.
    """
    sigmas = inversion_sigmas(model, steps, strength)
    trajectory: list[Tensor] | None = [] if keep_trajectory else None
    samples = _run(model, inversion_sampler(trajectory), sigmas, guidance, latent["samples"], 0, reporter)
    # Core's samplers would hold the part outside of a mask at their start, which is now noise.
    if "noise_mask" in latent:
        logging.warning(
            "DDIM Inversion: the latent's noise mask is left out, the whole clip is inverted; "
            "connect the mask to Sample Edited Video"
        )
    result = _without(latent, "noise_mask", TRAJECTORY)
    result |= {"samples": samples, INVERTED: (float(sigmas[-1]), strength, _sum(samples))}
    return result if trajectory is None else result | {TRAJECTORY: trajectory}


def sample(
    model: ModelPatcher,
    guidance: Guidance,
    latent: dict,
    steps: int,
    eta: float,
    seed: int,
    start: str,
    mask: Tensor | None,
    reporter: Reporter,
) -> dict:
    """DDIM sampling from one of `STARTS`, in ComfyUI's scale; outside of ``mask`` the source stays.

    Latents that were inverted a part of the way to noise are sampled from there. Raises ValueError if ``latent`` is
    not inverted, or lacks the trajectory that a mask needs.
    """
    if mask is None and "noise_mask" in latent:
        logging.warning(
            "Sample Edited Video: the latent's noise mask is not used; connect the mask to the input 'mask'"
        )
    samples = latent["samples"]
    level, strength = _inverted_to(latent) if start == "inverted clip" else (None, 1.0)
    sigmas = sampling_sigmas(model, steps, strength)
    blend = None if mask is None else _blend(mask, latent, len(sigmas) - 1)
    if start == "inverted clip":
        samples = _at_level(model, samples, level, float(sigmas[0]))
    else:
        samples = noise(model, samples, seed, float(sigmas[0]), shared=start != "random noise")
    samples = _run(model, ddim_sampler(eta, blend), sigmas, guidance, samples, seed, reporter)
    return _without(latent, "noise_mask", INVERTED, TRAJECTORY) | {"samples": samples}


def noise(model: ModelPatcher, like: Tensor, seed: int, sigma: float, shared: bool) -> Tensor:
    """Gaussian noise shaped as ``like`` at the level ``sigma``; ``shared`` gives every frame the same."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, *like.shape[1:]) if shared else like.shape
    fresh = torch.randn(shape, generator=generator).expand(like.shape) * (1 + sigma**2) ** 0.5
    return model.model.process_latent_out(fresh)


def _run(
    model: ModelPatcher,
    sampler: comfy.samplers.KSAMPLER,
    sigmas: Tensor,
    guidance: Guidance,
    samples: Tensor,
    seed: int,
    reporter: Reporter,
) -> Tensor:
    """Samples from ``samples`` as they are (no noise, no mask), with progress and previews on the running node."""
    move_bar = progress(len(sigmas) - 1)
    preview = ClipPreview(model)

    def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
        move_bar(i + 1, total)
        sheet = preview.sheet(denoised) if i + 1 == total or reporter.due() else None
        reporter.show(sheet, step=i + 1, steps=total)

    return comfy.sample.sample_custom(
        model,
        torch.zeros_like(samples),
        guidance.cfg,
        sampler,
        sigmas,
        guidance.positive,
        guidance.negative,
        samples,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )


def _inverted_to(latent: dict) -> tuple[float | None, float]:
    """The noise level and the strength that ``latent`` was inverted to; (None, 1.0) if it does not say."""
    level, strength, checksum = latent.get(INVERTED, (None, 1.0, None))
    return (level, strength) if checksum == _sum(latent["samples"]) else (None, 1.0)


def _at_level(model: ModelPatcher, samples: Tensor, level: float | None, sigma: float) -> Tensor:
    """Latents inverted to ``level`` at the level ``sigma``, from which sampling with another step count starts.

    Where ``level`` is not known the latents are taken as they are. Raises ValueError if they are a clean clip.
    """
    inner = model.model
    if level is None:
        # Noise is about as wide as its level, a clean clip about 1 wide.
        if 0.3 < float(inner.process_latent_in(samples).std()) < min(2.0, sigma / 3):
            raise ValueError(
                "The input 'latent' is a clean clip, not inverted noise; connect DDIM Inversion, "
                "or set 'start' to random noise."
            )
        logging.info(
            "Sample Edited Video: the latent does not say how far it was inverted (another node made or changed it); "
            "it is taken for the noise level %.2f",
            sigma,
        )
        return samples
    if level == sigma:
        return samples
    return inner.process_latent_out(inner.process_latent_in(samples) * ddim.level_scale(level, sigma))


def _blend(mask: Tensor, latent: dict, steps: int) -> LatentBlend:
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


def _without(latent: dict, *names: str) -> dict:
    return {name: value for name, value in latent.items() if name not in names}


def _sum(samples: Tensor) -> float:
    return float(samples.cpu().double().sum())
