"""The stages of the method on ComfyUI, in this process. Import it after `devkit.inprocess.start`."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_base
import comfy.model_management
import comfy.sample
import comfy.supported_models
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from diffusers import UNet2DConditionModel

from devkit.inprocess import pack
from devkit.parity.comfy_side import comfy_config
from tav_core.tuning import CHECKPOINTING_MODES

from .work import GUIDANCE, TUNING, Inputs, Stage

STEPS = 2


def build_model(unet: UNet2DConditionModel) -> ModelPatcher:
    """A MODEL with the weights of ``unet``."""
    settings = comfy_config(dict(unet.config))
    config = comfy.supported_models.SD15(dict(settings))
    config.unet_config = dict(settings)
    config.set_inference_dtype(unet.dtype, None)
    model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS, device="cpu")
    renamed = comfy.utils.unet_to_diffusers(settings)
    model.diffusion_model.load_state_dict(
        {renamed[name]: weight for name, weight in unet.state_dict().items()}
    )
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def comfyui_stages(model: ModelPatcher, inputs: Inputs) -> dict[str, Callable[[], Stage]]:
    """What makes each stage, by its name. A step of sampling is half a run of two."""
    sampling = pack("nodes.host.sampling")
    latents = inputs.latents.cpu()
    positive, negative = ([[prompt.cpu(), {}]] for prompt in (inputs.prompt, inputs.empty))

    def plain() -> Stage:
        return sample(model, 1.0)

    def sample(patcher: ModelPatcher, guidance: float) -> Stage:
        sigmas = sampling.sampling_sigmas(patcher, 50)[24 : 25 + STEPS]

        @torch.inference_mode()
        def run() -> None:
            comfy.sample.sample_custom(
                patcher,
                torch.zeros_like(latents),
                guidance,
                sampling.ddim_sampler(),
                sigmas,
                positive,
                negative,
                latents,
                disable_pbar=True,
                seed=0,
            )

        return run

    def tuning(mode: str) -> Stage:
        core = pack("tav_core.tuning")
        host = pack("nodes.host.tuning_unet").TuningHost(model)
        settings = core.TuningSettings(gradient_checkpointing=mode)
        tuner = core.Tuner(host, inputs.latents, inputs.prompt, settings)

        def run() -> None:
            with tuner:
                tuner.step()

        return run

    return {
        "plain": plain,
        "inversion": lambda: sample(inflate(model), 1.0),
        "guided sampling": lambda: sample(inflate(model), GUIDANCE),
        **{
            name: lambda mode=mode: tuning(mode)
            for name, mode in zip(TUNING, CHECKPOINTING_MODES, strict=True)
        },
    }


def inflate(model: ModelPatcher) -> ModelPatcher:
    """``model`` with fresh temporal layers in every block."""
    paths = pack("nodes.host.names").block_paths(model.model.model_config.unet_config)
    blocks = pack("nodes.host.names").blocks_at(model.model.diffusion_model, paths)
    core = pack("tav_core.temporal")
    layers = core.TemporalLayers(
        {n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in blocks.items()}
    )
    layers.reset(0)
    weights = pack("tav_core.weights").TunedWeights(layers.tensors())
    return pack("nodes.host.apply").apply_weights(model, weights)
