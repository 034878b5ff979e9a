"""ComfyUI's UNet behind the interface of `tav_core.inflation.chunked`."""

from collections.abc import Callable, Mapping, Sequence

import comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from torch import Tensor, nn

from ....tav_core.inflation.chunked import ResidualBlock
from .blocks import blocks_at, residual_blocks


class ChunkableUNet:
    """A `tav_core.inflation.chunked.ChunkableNetwork`; ``paths`` are from `blocks.block_paths`."""

    def __init__(self, unet: UNetModel, paths: Mapping[str, str]) -> None:
        self.unet = unet
        self.paths = paths

    def transformer_blocks(self) -> Mapping[str, nn.Module]:
        """See `ChunkableNetwork.transformer_blocks`."""
        return blocks_at(self.unet, self.paths)

    def chunkable_residual_blocks(self) -> Sequence[ResidualBlock]:
        """See `ChunkableNetwork.chunkable_residual_blocks`."""
        return [
            ResidualBlock(block, block.in_layers[0], block.in_layers[-1], block.out_layers[0])
            for block in residual_blocks(self.unet)
        ]

    def resampling_layers(self) -> Sequence[nn.Module]:
        """See `ChunkableNetwork.resampling_layers`."""
        return [module for module in self.unet.modules() if isinstance(module, Downsample | Upsample)]

    def last_norm(self) -> nn.Module:
        """See `ChunkableNetwork.last_norm`."""
        return self.unet.out[0]

    def affine(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `ChunkableNetwork.affine`; weights that ComfyUI offloaded or patches come as its layers see them."""
        weight, bias, stream = comfy.ops.cast_bias_weight(norm, x, offloadable=True)
        try:
            # Copies: once released, the memory may be another layer's.
            return weight.clone(), bias.clone()
        finally:
            comfy.ops.uncast_bias_weight(norm, weight, bias, stream)

    def run_block(self, forward: Callable[..., Tensor], frames: int, args: tuple, kwargs: dict) -> Tensor:
        """See `ChunkableNetwork.run_block`."""
        options = dict(kwargs["transformer_options"])
        # From these, attention patches tell how many frames there are; ours and those of others.
        for shape in ("original_shape", "activations_shape"):
            if shape in options:
                options[shape] = [len(args[0]), *options[shape][1:]]
        return forward(*args, **{**kwargs, "transformer_options": options})
