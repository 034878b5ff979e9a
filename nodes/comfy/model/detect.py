"""Detection of what a MODEL is: a supported UNet or not, its noise schedule and prediction type, its dtype."""

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher

from ....tav_core.diffusion.schedule import NoiseSchedule

REMEDY = "load a Stable Diffusion 1.x or 2.x checkpoint"


def check_model(model: ModelPatcher) -> None:
    """Raises ValueError with one plain sentence unless ``model`` is a Stable Diffusion 1.x or 2.x UNet."""
    kind = type(model.model).__name__
    unet = model.model.diffusion_model
    if type(unet) is not UNetModel:
        raise ValueError(f"The input 'model' is a {kind} model without Stable Diffusion's UNet; {REMEDY}.")
    if unet.num_classes is not None:
        raise ValueError(f"The input 'model' is a {kind} model (SDXL or its like), not supported; {REMEDY}.")
    channels = unet.in_channels
    if channels != 4:
        raise ValueError(
            f"The input 'model' takes {channels} latent channels (an inpainting or depth model); "
            f"{REMEDY} that takes 4."
        )


def prediction_type(model: ModelPatcher) -> str | None:
    """What ``model`` predicts, detected from its behaviour rather than from its class; None if neither of the two."""
    sampling = model.get_model_object("model_sampling")
    level, one = torch.ones(1), torch.ones(1, 1, 1, 1)
    answers = {
        "epsilon": 0.0,  # x - sigma * output
        "v_prediction": 0.5 - 0.5**0.5,  # x / (sigma^2 + 1) - sigma * output / sqrt(sigma^2 + 1)
    }
    if float(sampling.calculate_input(level, one)) != 1.0:
        answer = float(sampling.calculate_denoised(level, one, one))
        return next((name for name, expected in answers.items() if abs(answer - expected) < 1e-5), None)
    return None


def noise_schedule(model: ModelPatcher) -> NoiseSchedule:
    """The noise schedule and prediction type of ``model``.

    Raises ValueError for models that are neither noise nor velocity prediction on a discrete schedule.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = getattr(sampling, "sigmas", torch.zeros(1))
    # Distilled schedules (LCM) skip timesteps; the method learns at all of them.
    complete = len(sigmas) > 1 and float(sampling.timestep(sigmas[-1:])) == len(sigmas) - 1
    predicts = prediction_type(model) if complete else None
    if predicts is None:
        raise ValueError(
            "The input 'model' predicts neither noise nor velocity on Stable Diffusion's schedule; "
            "remove sampling patches such as LCM or flow from the graph before this node."
        )
    return NoiseSchedule.from_sigmas(sigmas, predicts)


def compute_dtype(model: ModelPatcher) -> torch.dtype:
    """The dtype that ``model`` computes in, whatever dtype its weights are stored in."""
    return model.model.manual_cast_dtype or model.model.get_dtype()
