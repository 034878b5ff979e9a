"""A private copy of a MODEL's UNet to tune on, with LoRAs and other weight patches merged in."""

from collections.abc import Iterator, Mapping, Sequence

import comfy.lora
import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....tav_core.inflation.cross_attention import attach_shared_context
from ....tav_core.inflation.host import network_inputs
from ....tav_core.inflation.mode import AttentionMode
from ....tav_core.patching import Overrides
from ..model.attention import OVERRIDE, torch_attention
from ..model.blocks import block_paths, blocks_at, frame_norms, residual_blocks
from ..model.detect import check_model, compute_dtype, noise_schedule
from ..model.inflate import attention_patches
from ..model.ops import EagerOps

PREFIX = "diffusion_model."


class TuningHost:
    """A `tav_core.inflation.host.Host` on a private UNet equal to ``model``'s, which itself is only read.

    Build and use it outside of inference mode: tensors made inside cannot take part in a backward pass. All other
    models leave the GPU first, so that this is the one copy of the UNet there.
    """

    def __init__(self, model: ModelPatcher) -> None:
        self._read(model, model.load_device)
        comfy.model_management.unload_all_models()
        self._patcher = ModelPatcher(
            private_unet(model, self.dtype),
            load_device=model.load_device,
            offload_device=model.offload_device,
        )
        comfy.model_management.load_models_gpu([self._patcher], force_full_load=True)
        # With --novram even a model that is to be loaded whole stays on the CPU, from where a layer's weights come and
        # go: a backward pass needs them to stay.
        self.unet = self._patcher.model.to(self.device)
        self.unet.requires_grad_(False).train(False)

    def _read(self, model: ModelPatcher, device: torch.device) -> None:
        """Takes everything from ``model`` that is not a weight."""
        check_model(model)
        self.schedule = noise_schedule(model)
        self.device = device
        self.dtype = compute_dtype(model)
        self._paths = block_paths(model.model.model_config.unet_config)
        self._patches: dict = {}
        self._frames = 1
        self._shares_context = False

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
        attach_shared_context(overrides, [block.attn2 for block in self.transformer_blocks().values()])
        overrides.set(self, "_shares_context", True)

    def predict(self, x: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
        """See `Host.predict`."""
        clips = len(x) // self._frames
        options = {
            "cond_or_uncond": [0] * clips,
            "patches_replace": {"attn1": self._patches},
            # Not every attention backend has a backward pass; torch's has.
            OVERRIDE: torch_attention,
        }
        x, timesteps, context = network_inputs(x, timestep, context, self.dtype, self._shares_context)
        return self.unet(x, timesteps, context=context, transformer_options=options).float()

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
    unet = shapes_only_unet(model, dtype)
    # The weights themselves, not copies: at its peak this takes the UNet's size once.
    unet.load_state_dict(dict(merged_weights(model, unet.dtype)), assign=True)
    return unet


def shapes_only_unet(model: ModelPatcher, dtype: torch.dtype) -> nn.Module:
    """A UNet of ``model``'s class and configuration on the meta device, without data; see `private_unet`."""
    source = model.model
    stored = source.get_dtype()
    stored = stored if stored in (torch.float16, torch.bfloat16, torch.float32) else dtype
    config = {**source.model_config.unet_config, "dtype": stored}
    return type(source.diffusion_model)(**config, device="meta", operations=EagerOps)


@torch.no_grad()
def merged_weights(model: ModelPatcher, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The UNet's state dict on the CPU in ``dtype``, with all weight patches of ``model`` merged in float32.

    Raises ValueError for quantised weights that are not floating-point numbers.
    """
    for key, (origin, *patches) in model.get_key_patches(PREFIX).items():
        weight, convert = origin
        weight = convert(weight.detach().to("cpu", copy=True), inplace=True)
        if not weight.is_floating_point():
            raise ValueError(
                "The input 'model' holds weights that are packed as whole numbers (GGUF or another quantised kind), "
                "which cannot be tuned; load the checkpoint in fp16, bf16, fp32 or fp8."
            )
        if patches:
            weight = comfy.lora.calculate_weight(patches, weight.float(), key)
        yield key.removeprefix(PREFIX), weight.to(dtype)
