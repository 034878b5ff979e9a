"""The method's DDIM inside ComfyUI's sampler machinery: callbacks, previews, interrupts and ControlNet work."""

from collections.abc import Callable

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....tav_core.diffusion import ddim
from ..page.live import Reporter, reporting
from .preview import LatentFrames

# Seconds between two moving previews of a sampler; each is a picture of the whole clip.
PREVIEW_SECONDS = 0.5


def _with_clean_level(function: Callable) -> Callable:
    """A ComfyUI sampler function that tells ``function`` which noise level its model counts as clean."""

    def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        clean = float(model.inner_model.model_patcher.get_model_object("model_sampling").sigmas[0])
        return function(model, x, sigmas, extra_args, callback, disable, clean_sigma=clean, **options)

    return sampler


def _ddim_sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
    seed = (extra_args or {}).get("seed") or 0
    generator = torch.Generator().manual_seed(seed)

    def fresh_noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    return ddim.ddim_sample(
        model, x, sigmas, extra_args, callback, disable, noise_sampler=fresh_noise, **options
    )


def inversion_sampler() -> comfy.samplers.KSAMPLER:
    """DDIM inversion as a SAMPLER; it wants ascending sigmas."""
    return comfy.samplers.KSAMPLER(_with_clean_level(ddim.ddim_invert))


def ddim_sampler(eta: float = 0.0, after_step: Callable | None = None) -> comfy.samplers.KSAMPLER:
    """DDIM with ``eta`` in 0..1 as a SAMPLER; ``after_step`` as in `tav_core.diffusion.ddim.ddim_sample`."""
    options = {"eta": eta, "after_step": after_step}
    return comfy.samplers.KSAMPLER(_with_clean_level(_ddim_sample), extra_options=options)


def inversion_sigmas(model: ModelPatcher, steps: int, strength: float = 1.0) -> Tensor:
    """Ascending sigmas of ``model``'s schedule: `tav_core.diffusion.ddim.inversion_sigmas`."""
    return ddim.inversion_sigmas(model.get_model_object("model_sampling").sigmas.cpu(), steps, strength)


def sampling_sigmas(model: ModelPatcher, steps: int, strength: float = 1.0) -> Tensor:
    """Descending sigmas of ``model``'s schedule: `tav_core.diffusion.ddim.sampling_sigmas`."""
    return inversion_sigmas(model, steps, strength).flip(0)


def run_sampler(
    model: ModelPatcher,
    sampler: comfy.samplers.KSAMPLER,
    sigmas: Tensor,
    positive: list,
    negative: list,
    cfg: float,
    latent: dict,
    kind: str,
    seed: int = 0,
    on_step: Callable[[Tensor], None] | None = None,
) -> dict:
    """Samples from ``latent`` as it is (no noise, no mask), with progress and previews on the running node.

    ``kind`` says to browsers what this is. ``on_step`` gets the sampler's latents at every step, in the network's
    scale.
    """
    samples = latent["samples"]
    preview = latent_preview.prepare_callback(model, len(sigmas) - 1)
    with reporting(kind, PREVIEW_SECONDS) as reporter:
        moving = _moving_preview(model, reporter)

        def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
            if on_step is not None:
                on_step(x)
            preview(i, denoised, x, total)
            moving(i, denoised, total)

        result = comfy.sample.sample_custom(
            model,
            torch.zeros_like(samples),
            cfg,
            sampler,
            sigmas,
            positive,
            negative,
            samples,
            callback=callback,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
    return {**latent, "samples": result}


def _moving_preview(model: ModelPatcher, reporter: Reporter) -> Callable[[int, Tensor, int], None]:
    frames = LatentFrames(model)

    def show(i: int, denoised: Tensor, total: int) -> None:
        last = i + 1 >= total
        sheet = frames.sheet(denoised) if last or reporter.due() else None
        reporter.show(sheet, step=i + 1, steps=total)

    return show
