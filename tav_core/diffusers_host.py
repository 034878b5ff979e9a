"""The method on a diffusers ``UNet2DConditionModel``."""

from collections.abc import Mapping, Sequence

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from .inflation import BlockResidual, InflationMode, attach
from .overrides import Overrides
from .schedule import NoiseSchedule
from .sparse_causal import AttentionMode, sparse_causal_attention


class DiffusersHost:
    """A `tav_core.host.Host` around a diffusers UNet, which stays as it is but for what is attached."""

    def __init__(self, unet: UNet2DConditionModel, schedule: NoiseSchedule) -> None:
        self.unet = unet
        self.schedule = schedule
        unet.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the UNet's weights are."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the UNet computes in."""
        return self.unet.dtype

    def transformer_blocks(self) -> Mapping[str, nn.Module]:
        """See `Host.transformer_blocks`."""
        return {n: m for n, m in self.unet.named_modules() if isinstance(m, BasicTransformerBlock)}

    def residual_blocks(self) -> Sequence[nn.Module]:
        """See `Host.residual_blocks`."""
        return [m for m in self.unet.modules() if isinstance(m, ResnetBlock2D)]

    def frame_norms(self) -> Sequence[nn.Module]:
        """See `Host.frame_norms`."""
        norms = [norm for block in self.residual_blocks() for norm in (block.norm1, block.norm2)]
        return [*norms, self.unet.conv_norm_out]

    def attach_attention(self, overrides: Overrides, frames: int, mode: AttentionMode) -> None:
        """See `Host.attach_attention`."""

        def attention(attn: nn.Module):
            def around(forward, hidden_states: Tensor, *args, **kwargs) -> Tensor:
                q, k, v = (p(hidden_states) for p in (attn.to_q, attn.to_k, attn.to_v))
                out = sparse_causal_attention(q, k, v, frames, mode, lambda *x: attend(*x, attn.heads))
                return attn.to_out[0](out)

            return around

        if mode != "off":
            for block in self.transformer_blocks().values():
                overrides.wrap_forward(block.attn1, attention(block.attn1))

    def predict(self, x: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
        """See `Host.predict`."""
        context = context.to(x.device, self.dtype)
        context = context.repeat_interleave(len(x) // len(context), dim=0)
        if isinstance(timestep, Tensor):
            timestep = timestep.reshape(-1).to(x.device)
            timestep = timestep.repeat_interleave(len(x) // len(timestep))
        return self.unet(x.to(self.dtype), timestep, context).sample.float()

    def denoiser(
        self,
        context: Tensor,
        uncond: Tensor | None = None,
        guidance: float = 1.0,
        mode: InflationMode = InflationMode(),
        layers: Mapping[str, BlockResidual] | None = None,
    ):
        """A ``model(x, sigma)`` for `tav_core.ddim` over one clip, inflated for the length of each call.

        ``context`` and ``uncond`` are (1, tokens, width). Classifier-free guidance (arXiv 2207.12598) only above
        1, in one batch of both.
        """
        guided = guidance > 1.0
        if guided and uncond is None:
            raise ValueError("guidance above 1 needs the embedding of an unconditional prompt")
        contexts = torch.cat([uncond, context]) if guided else context

        def model(x: Tensor, sigma: Tensor) -> Tensor:
            level = float(sigma[0])
            scaled = x / (1.0 + level**2) ** 0.5
            scaled = torch.cat([scaled, scaled]) if guided else scaled
            with Overrides() as overrides:
                attach(overrides, self, mode, layers or {}, frames=len(x))
                output = self.predict(scaled, self.schedule.timestep_of(level), contexts)
            if guided:
                without, with_prompt = output.chunk(2)
                output = without + guidance * (with_prompt - without)
            return self.schedule.denoised(output, x, level)

        return model


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention over (rows, tokens, channels), by torch's fused kernels."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
