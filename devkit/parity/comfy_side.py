"""The ComfyUI host under check: its own UNet class, patches, samplers and guidance."""

from __future__ import annotations

from functools import cache

import comfy.model_base
import comfy.model_management
import comfy.sample
import comfy.supported_models
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import copy_nested_dicts
from torch import Tensor, nn

from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

from ..inprocess import pack
from .reference import TUNED, Reference, split

# Module prefixes that tell where a part went: (suffix of one of its weights in diffusers, the same in ComfyUI).
_LANDMARKS = (
    (".norm.weight", ".norm.weight"),
    (".conv1.weight", ".in_layers.2.weight"),
    (".conv.weight", ".op.weight"),
    (".conv.weight", ".conv.weight"),
    (".linear_1.weight", ".0.weight"),
    (".net.0.proj.weight", ".net.0.proj.weight"),
)


class ComfySide:
    """See `checks.Side`."""

    name = "comfyui"

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.unet_config = comfy_config(reference.unet_config)
        self.renamed = comfy.utils.unet_to_diffusers(self.unet_config)
        self._inflated = cache(self._apply)

    def forward(self, variant: str, x: Tensor, timesteps: Tensor, context: Tensor, frames: int) -> Tensor:
        """See `Side.forward`."""
        model = self._inflated(variant)
        clips = len(x) // frames
        comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
        options = create_model_options_clone(model.model_options)["transformer_options"]
        options["wrappers"] = copy_nested_dicts(model.wrappers)
        options["cond_or_uncond"] = [0] * clips
        with torch.no_grad():
            return model.model.diffusion_model(
                x,
                timesteps.float().repeat_interleave(frames),
                context=context.repeat_interleave(frames, dim=0),
                transformer_options=options,
            )

    def modules(self, variant: str, names: list[str]) -> dict[str, tuple[nn.Module, nn.Module]]:
        """See `Side.modules`."""
        model = self._inflated(variant)
        layers = pack("nodes.comfy.model.inflate").inflation_of(model).layers[0].root.model
        comfy.model_management.load_models_gpu([model])
        unet = model.model.diffusion_model
        found = {}
        for name in names:
            if name.endswith("attn_temp"):
                found[name] = (layers.get_submodule(name),) * 2
            elif name.endswith((".attn1", ".attn2")):
                # The module itself is not called where ComfyUI lets patches replace its attention.
                attention = unet.get_submodule(self._path(f"{name}.to_q.weight").removesuffix(".to_q.weight"))
                found[name] = (attention.to_q, attention.to_out)
            else:
                found[name] = (unet.get_submodule(self._module_path(name)),) * 2
        return found

    def tuner(
        self, variant: str, latents: Tensor, context: Tensor, settings: TuningSettings, **options
    ) -> Tuner:
        """See `Side.tuner`."""
        image, temporal = split(self.reference.weights(variant))
        host = pack("nodes.comfy.tuning.unet").TuningHost(self._model(image))
        core = pack("tav_core.inflation.temporal")
        blocks = host.transformer_blocks()
        heads = {name: block.attn1.heads for name, block in blocks.items()}
        layers = core.TemporalLayers(core.temporal_sizes(blocks, temporal, heads))
        layers.load(temporal)
        return pack("tav_core.tuning.tuner").Tuner(
            host, latents, context, settings, temporal=layers, **options
        )

    def invert(self, latents: Tensor, context: Tensor, steps: int) -> list[Tensor]:
        """See `Side.invert`."""
        sampling = pack("nodes.comfy.sampling.ddim")
        model = self._inflated(TUNED)
        sigmas = sampling.inversion_sigmas(model, steps)
        trajectory: list[Tensor] = []
        self._sample(model, sampling.inversion_sampler(trajectory), sigmas, latents, context, context, 1.0)
        return [x / (1 + sigma**2) ** 0.5 for x, sigma in zip(trajectory, sigmas, strict=True)]

    def sample(
        self, start: Tensor, context: Tensor, uncond: Tensor | None, guidance: float, steps: int
    ) -> list[Tensor]:
        """See `Side.sample`."""
        sampling = pack("nodes.comfy.sampling.ddim")
        model = self._inflated(TUNED)
        sigmas = sampling.sampling_sigmas(model, steps)
        latents = []

        def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
            latents.append(x / (1 + sigmas[i] ** 2) ** 0.5)

        negative = context if uncond is None else uncond
        start = start * (1 + sigmas[0] ** 2) ** 0.5
        final = self._sample(
            model, sampling.ddim_sampler(), sigmas, start, context, negative, guidance, callback
        )
        return [*latents[1:], final]

    def _sample(self, model, sampler, sigmas, latents, positive, negative, cfg, callback=None) -> Tensor:
        samples = model.model.process_latent_out(latents)
        result = comfy.sample.sample_custom(
            model,
            torch.zeros_like(samples),
            cfg,
            sampler,
            sigmas,
            [[positive, {}]],
            [[negative, {}]],
            samples,
            callback=callback,
            disable_pbar=True,
            seed=0,
        )
        return model.model.process_latent_in(result)

    def _apply(self, variant: str) -> ModelPatcher:
        """The base model with the variant as tuned weights: query differences and temporal layers."""
        base = split(self.reference.tensors("unet2d"))[0]
        image, temporal = split(self.reference.weights(variant))
        tensors = {
            f"{name.removesuffix('.weight')}.diff": weight - base[name]
            for name, weight in image.items()
            if name.endswith(("attn1.to_q.weight", "attn2.to_q.weight"))
            and not torch.equal(weight, base[name])
        }
        files = pack("tav_core.files.weights")
        metadata = files.TunedMetadata(prediction_type=self.reference.schedule.prediction_type)
        weights = files.TunedWeights(tensors | temporal, metadata)
        return pack("nodes.comfy.model.apply").apply_weights(self._model(base), weights)

    def _model(self, image: dict[str, Tensor]) -> ModelPatcher:
        config = self._model_config()
        velocity = self.reference.schedule.prediction_type == "v_prediction"
        kind = comfy.model_base.ModelType.V_PREDICTION if velocity else comfy.model_base.ModelType.EPS
        model = comfy.model_base.BaseModel(config, model_type=kind, device="cpu")
        model.diffusion_model.load_state_dict({self._path(name): tensor for name, tensor in image.items()})
        device = comfy.model_management.get_torch_device()
        return ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))

    def _model_config(self):
        scheduler = self.reference.json("scheduler_config.json")
        config = comfy.supported_models.SD15(dict(self.unet_config))
        # ComfyUI's "linear" is linear in the square root, diffusers' scaled_linear.
        config.sampling_settings = {
            "linear_start": scheduler["beta_start"],
            "linear_end": scheduler["beta_end"],
            "timesteps": scheduler["num_train_timesteps"],
        }
        config.unet_config = dict(self.unet_config)
        config.set_inference_dtype(torch.float32, None)
        return config

    def _path(self, name: str) -> str:
        return self.renamed[name]

    def _module_path(self, name: str) -> str:
        for theirs, ours in _LANDMARKS:
            path = self.renamed.get(name + theirs, "")
            if path.endswith(ours):
                return path.removesuffix(ours)
        raise KeyError(f"no place known for the module {name}")


def comfy_config(config: dict) -> dict:
    """ComfyUI's description of a diffusers UNet configuration.

    Raises ValueError for shapes that ComfyUI cannot express: channels that are no multiples of the first level's,
    or heads that are neither the same number nor the same width on all levels.
    """
    widths = config["block_out_channels"]
    levels = len(widths)
    layers = config.get("layers_per_block", 2)
    layers = [layers] * levels if isinstance(layers, int) else list(layers)
    if any(width % widths[0] for width in widths) or config.get("norm_num_groups", 32) != 32:
        raise ValueError("ComfyUI's UNet wants channels in multiples of the first level's and 32 norm groups")
    # Every published SD configuration names the number of heads "attention_head_dim".
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    down = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    up = [int("CrossAttn" in kind) for kind in reversed(config["up_block_types"])]
    result = {
        "image_size": 32,
        "in_channels": config.get("in_channels", 4),
        "out_channels": config.get("out_channels", 4),
        "model_channels": widths[0],
        "num_res_blocks": layers,
        "channel_mult": [width // widths[0] for width in widths],
        "transformer_depth": [d for d, n in zip(down, layers, strict=True) for _ in range(n)],
        "transformer_depth_output": [u for u, n in zip(up, layers, strict=True) for _ in range(n + 1)],
        "transformer_depth_middle": 1,
        "context_dim": config["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "use_temporal_attention": False,
        "adm_in_channels": None,
        "legacy": False,
    }
    if isinstance(heads, int):
        return result | {"num_heads": heads, "num_head_channels": -1}
    width = {w // h for w, h in zip(widths, heads, strict=True)}
    if len(width) > 1:
        raise ValueError("ComfyUI's UNet wants the same number or the same width of heads on all levels")
    return result | {"num_heads": -1, "num_head_channels": width.pop()}
