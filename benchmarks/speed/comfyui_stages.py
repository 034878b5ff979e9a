"""The stages of the method on ComfyUI, in this process. Import it after `devkit.inprocess.start`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.sample
import comfy.supported_models
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from diffusers import UNet2DConditionModel
from torch import nn

from devkit.inprocess import pack
from devkit.parity.comfy_side import comfy_config
from tav_core.tuning.settings import CHECKPOINTING_MODES

from .diffusers_stages import GUIDANCE, TUNING, Inputs, Stage, compute_dtype
from .sizes import Size

STEPS = 2


def build_model(unet: UNet2DConditionModel) -> ModelPatcher:
    """A MODEL with the weights of ``unet``; if those are on the meta device, with shapes alone."""
    settings = comfy_config(dict(unet.config))
    config = comfy.supported_models.SD15(dict(settings))
    config.unet_config = dict(settings)
    config.set_inference_dtype(unet.dtype, None)
    where = torch.device("meta" if unet.device.type == "meta" else "cpu")
    model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS, device=where)
    if where.type != "meta":
        renamed = comfy.utils.unet_to_diffusers(settings)
        weights = {renamed[name]: weight for name, weight in unet.state_dict().items()}
        model.diffusion_model.load_state_dict(weights)
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(model, load_device=device, offload_device=where)


def comfyui_stages(model: ModelPatcher, inputs: Inputs) -> dict[str, Callable[[], Stage]]:
    """What makes each stage, by its name. A step of sampling is half a run of two."""
    sampling = pack("nodes.comfy.sampling.ddim")
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

    return {
        "plain": plain,
        "inversion": lambda: sample(inflate(model), 1.0),
        "guided sampling": lambda: sample(inflate(model), GUIDANCE),
        **{
            name: lambda mode=mode: tuning(model, inputs, _settings(mode))
            for name, mode in zip(TUNING, CHECKPOINTING_MODES, strict=True)
        },
    }


def tuning(model: ModelPatcher, inputs: Inputs, settings: Any) -> Stage:
    """One optimiser step."""
    host = pack("nodes.comfy.tuning.unet").TuningHost(model)
    tuner = pack("tav_core.tuning.tuner").Tuner(host, inputs.latents, inputs.prompt, settings)

    def run() -> None:
        with tuner:
            tuner.step()

    return run


def preset_stages(model: ModelPatcher, size: Size, device: torch.device) -> dict[str, Callable[[], Stage]]:
    """One optimiser step of the clips and memory presets of ``size``, by `preset_stage`."""

    def step(frames: int, preset: str) -> Stage:
        inputs = Inputs(size, device, frames)
        return tuning(model, inputs, _memory(model, inputs).choose(preset))

    return {
        preset_stage(frames, preset): lambda f=frames, p=preset: step(f, p) for frames, preset in size.presets
    }


def preset_stage(frames: int, preset: str) -> str:
    """What the stage is called."""
    return f"tuning {frames} frames, {preset}"


def shapes_of(size: Size, device: torch.device) -> ModelPatcher:
    """A MODEL with the shapes of ``size`` and no weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=size.side, **size.unet)
    # Presets that need a GPU are told for one where there is none.
    nn.Module.to(unet, torch.bfloat16 if size.presets_need_gpu else compute_dtype(size, device))
    return build_model(unet)


def chosen(model: ModelPatcher, size: Size, frames: int, preset: str) -> dict:
    """What a preset makes of the settings, and the estimate in MB; nothing is computed, a `shapes_of` will do."""
    memory = _memory(model, Inputs(size, torch.device("meta"), frames))
    settings = memory.choose(preset)
    names = ("gradient_checkpointing", "query_rank", "frames_per_step")
    return {name: getattr(settings, name) for name in names} | {
        "estimate_mb": memory.needed(settings).total / 2**20
    }


def _settings(checkpointing: str) -> Any:
    return pack("tav_core.tuning.settings").TuningSettings(gradient_checkpointing=checkpointing)


def _memory(model: ModelPatcher, inputs: Inputs) -> Any:
    run = pack("tav_core.tuning.run").TuningRun(inputs.latents, inputs.prompt, _settings("none"))
    return pack("nodes.comfy.tuning.memory").TuningMemory(model, run)


def inflate(model: ModelPatcher) -> ModelPatcher:
    """``model`` with fresh temporal layers in every block."""
    paths = pack("nodes.comfy.model.blocks").block_paths(model.model.model_config.unet_config)
    blocks = pack("nodes.comfy.model.blocks").blocks_at(model.model.diffusion_model, paths)
    core = pack("tav_core.inflation.temporal")
    layers = core.TemporalLayers(
        {n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in blocks.items()}
    )
    layers.reset(0)
    weights = pack("tav_core.files.weights").TunedWeights(layers.tensors())
    return pack("nodes.comfy.model.apply").apply_weights(model, weights)
