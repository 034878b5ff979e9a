"""A private copy of a MODEL's UNet to tune on, with LoRAs and other weight patches merged in."""

from collections.abc import Mapping, Sequence

import comfy.lora
import comfy.model_management
import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...tav_core.overrides import Overrides
from ...tav_core.sparse_causal import AttentionMode
from .inflate import attention_patches
from .model import check_model, compute_dtype, noise_schedule
from .names import block_paths, blocks_at, frame_norms, residual_blocks

PREFIX = "diffusion_model."


class TuningHost:
    """A `tav_core.host.Host` on a private UNet equal to ``model``'s, which itself is only read.

    Build and use it outside of inference mode: tensors made inside cannot take part in a backward pass. All other
    models leave the GPU first, so that this is the one copy of the UNet there.
    """

    def __init__(self, model: ModelPatcher) -> None:
        check_model(model)
        self.schedule = noise_schedule(model)
        self.device = model.load_device
        self.dtype = compute_dtype(model)
        self._paths = block_paths(model.model.model_config.unet_config)
        self._patches: dict = {}
        self._frames = 1
        comfy.model_management.unload_all_models()
        self._patcher = ModelPatcher(
            private_unet(model, self.dtype),
            load_device=model.load_device,
            offload_device=model.offload_device,
        )
        comfy.model_management.load_models_gpu([self._patcher], force_full_load=True)
        self.unet = self._patcher.model
        self.unet.requires_grad_(False).eval()

    def transformer_blocks(self) -> Mapping[str, nn.Module]:
        """See `Host.transformer_blocks`."""
        return blocks_at(self.unet, self._paths)

    def residual_blocks(self) -> Sequence[nn.Module]:
        """See `Host.residual_blocks`."""
        return residual_blocks(self.unet)

    def frame_norms(self) -> Sequence[nn.Module]:
        """See `Host.frame_norms`."""
        return frame_norms(self.unet)

    def attach_attention(self, overrides: Overrides, frames: int, mode: AttentionMode) -> None:
        """See `Host.attach_attention`."""
        overrides.set(self, "_patches", attention_patches(self._paths, mode))
        overrides.set(self, "_frames", frames)

    def predict(self, x: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
        """See `Host.predict`."""
        clips = len(x) // self._frames
        options = {
            "cond_or_uncond": [0] * clips,
            "patches_replace": {"attn1": self._patches},
            # Not every attention backend has a backward pass; torch's has.
            "optimized_attention_override": lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs),
        }
        timesteps = torch.as_tensor(timestep, dtype=torch.float32, device=x.device).reshape(-1)
        context = context.to(x.device, self.dtype)
        return self.unet(
            x.to(self.dtype),
            timesteps.repeat_interleave(len(x) // len(timesteps)),
            context=context.repeat_interleave(len(x) // len(context), dim=0),
            transformer_options=options,
        ).float()

    def release(self) -> None:
        """Gives the private UNet's memory back."""
        self._patcher.detach()
        self.unet = None
        self._patcher = None
        comfy.model_management.cleanup_models_gc()
        comfy.model_management.soft_empty_cache()


def private_unet(model: ModelPatcher, dtype: torch.dtype) -> nn.Module:
    """A new UNet on the CPU with the weights ``model`` samples with: its patches merged, its dtype kept.

    Weights stored in a dtype that cannot be computed with (fp8) are kept in ``dtype``.
    """
    source = model.model
    stored = source.get_dtype()
    stored = stored if stored in (torch.float16, torch.bfloat16, torch.float32) else dtype
    config = {**source.model_config.unet_config, "dtype": stored}
    unet = type(source.diffusion_model)(**config, device="cpu", operations=comfy.ops.manual_cast)
    unet.load_state_dict({key: weight.to(stored) for key, weight in merged_weights(model).items()})
    return unet


@torch.no_grad()
def merged_weights(model: ModelPatcher) -> dict[str, Tensor]:
    """The UNet's state dict on the CPU with all weight patches of ``model`` merged in, in float32 where patched."""
    weights = {}
    for key, (origin, *patches) in model.get_key_patches(PREFIX).items():
        weight, convert = origin
        weight = convert(weight.detach().to("cpu", copy=True), inplace=True)
        if patches:
            weight = comfy.lora.calculate_weight(patches, weight.float(), key)
        weights[key.removeprefix(PREFIX)] = weight
    return weights
