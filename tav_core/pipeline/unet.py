"""The method on a diffusers ``UNet2DConditionModel``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from ..diffusion.schedule import NoiseSchedule
from ..inflation.attach import BlockResidual, attach
from ..inflation.attention import sparse_causal_attention
from ..inflation.chunked import ResidualBlock, attach_chunked
from ..inflation.cross_attention import attach_shared_context
from ..inflation.host import TransformerBlock, in_network_order, network_inputs
from ..inflation.mode import AttentionMode, InflationMode
from ..patching import Overrides


class DiffusersHost:
    """A `tav_core.inflation.host.Host` around a diffusers UNet, which stays as it is but for what is attached."""

    def __init__(self, unet: UNet2DConditionModel, schedule: NoiseSchedule) -> None:
        self.unet = unet
        self.schedule = schedule
        self._shares_context = False
        self._chunk: int | None = None
        unet.requires_grad_(False).train(False)

    @property
    def device(self) -> torch.device:
        """Where the UNet's weights are."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the UNet computes in."""
        return self.unet.dtype

    def transformer_blocks(self) -> Mapping[str, TransformerBlock]:
        """See `Host.transformer_blocks`."""
        modules = self.unet.named_modules()
        return in_network_order({n: m for n, m in modules if isinstance(m, BasicTransformerBlock)})

    def residual_blocks(self) -> Sequence[nn.Module]:
        """See `Host.residual_blocks`."""
        return [m for m in self.unet.modules() if isinstance(m, ResnetBlock2D)]

    def frame_norms(self) -> Sequence[nn.Module]:
        """See `Host.frame_norms`."""
        norms = [norm for block in self.residual_blocks() for norm in (block.norm1, block.norm2)]
        return [*norms, self.unet.conv_norm_out]

    def attach_attention(self, overrides: Overrides, frames: int, mode: AttentionMode) -> None:
        """See `Host.attach_attention`."""

        def attention(attn: Any) -> Callable[..., Tensor]:
            def around(
                forward: Callable[..., Tensor], hidden_states: Tensor, *args: Any, **kwargs: Any
            ) -> Tensor:
                q, k, v = (p(hidden_states) for p in (attn.to_q, attn.to_k, attn.to_v))
                length = self._chunk or frames
                out = sparse_causal_attention(
                    q, k, v, length, mode, lambda q, k, v: attend(q, k, v, attn.heads)
                )
                return attn.to_out[0](out)

            return around

        blocks = self.transformer_blocks().values()
        if mode != "off":
            for block in blocks:
                overrides.wrap_forward(block.attn1, attention(block.attn1))
        attach_shared_context(overrides, [block.attn2 for block in blocks])
        overrides.set(self, "_shares_context", True)

    def chunkable_residual_blocks(self) -> Sequence[ResidualBlock]:
        """See `ChunkableNetwork`, as the four below."""
        blocks: Sequence[Any] = self.residual_blocks()
        return [ResidualBlock(b, b.norm1, b.conv1, b.norm2) for b in blocks]

    def resampling_layers(self) -> Sequence[nn.Module]:
        """The layers between resolutions."""
        return [m for m in self.unet.modules() if isinstance(m, Downsample2D | Upsample2D)]

    def last_norm(self) -> nn.GroupNorm:
        """The group norm before the last convolution."""
        return self.unet.conv_norm_out

    def affine(self, norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a group norm."""
        return norm.weight, norm.bias

    def run_block(self, forward: Callable[..., Tensor], frames: int, args: tuple, kwargs: dict) -> Tensor:
        """Calls a transformer block's ``forward`` with clips of ``frames`` frames."""
        with Overrides() as overrides:
            overrides.set(self, "_chunk", frames)
            return forward(*args, **kwargs)

    def predict(self, x: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
        """See `Host.predict`."""
        return self.unet(
            *network_inputs(x, timestep, context, self.dtype, self._shares_context)
        ).sample.float()

    def denoiser(
        self,
        context: Tensor,
        uncond: Tensor | None = None,
        guidance: float = 1.0,
        mode: InflationMode = InflationMode(),
        layers: Mapping[str, BlockResidual] | None = None,
        chunk_frames: int = 0,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A ``model(x, sigma)`` for `tav_core.diffusion.ddim` over one clip, inflated for the length of each call.

        ``context`` and ``uncond`` are (1, tokens, width). Classifier-free guidance (arXiv 2207.12598) only above
        1, in one batch of both. ``chunk_frames`` > 0 evaluates so many frames at a time: the same result with less
        memory, in more time.
        """
        guided = guidance > 1.0
        if guided and uncond is None:
            raise ValueError("guidance above 1 needs the embedding of an unconditional prompt")
        contexts = torch.cat([uncond, context]) if guided and uncond is not None else context

        def model(x: Tensor, sigma: Tensor) -> Tensor:
            level = float(sigma[0])
            scaled = x / (1.0 + level**2) ** 0.5
            scaled = torch.cat([scaled, scaled]) if guided else scaled
            with Overrides() as overrides:
                if 0 < chunk_frames < len(x):
                    self.attach_attention(overrides, len(x), mode.attention)
                    attach_chunked(overrides, self, mode, layers or {}, len(x), chunk_frames)
                else:
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
