"""Where the parts of Stable Diffusion's UNet are in ComfyUI's module tree."""

from collections.abc import Mapping

import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import nn

from ....tav_core.inflation.host import in_network_order

ATTENTION_KEY = ".attn1.to_q.weight"


def block_paths(unet_config: Mapping) -> dict[str, str]:
    """Transformer blocks: diffusers name to the path inside ComfyUI's UNet, in the order of the network."""
    renamed = comfy.utils.unet_to_diffusers(dict(unet_config))
    paths = {
        theirs.removesuffix(ATTENTION_KEY): ours.removesuffix(ATTENTION_KEY)
        for theirs, ours in renamed.items()
        if theirs.endswith(ATTENTION_KEY)
    }
    return in_network_order(paths)


def blocks_at(unet: UNetModel, paths: Mapping[str, str]) -> dict[str, nn.Module]:
    """The transformer blocks of ``unet`` by their diffusers names; ``paths`` are from `block_paths`."""
    return {name: unet.get_submodule(path) for name, path in paths.items()}


def patch_location(path: str) -> tuple[str, int]:
    """The (block, number) under which ComfyUI's attention patches know the block at ``path``."""
    stage, number = path.split(".")[:2]
    if stage == "middle_block":
        return "middle", 0
    return stage.removesuffix("_blocks"), int(number)


def residual_blocks(unet: UNetModel) -> list[nn.Module]:
    """All residual blocks of ``unet``."""
    return [module for module in unet.modules() if isinstance(module, ResBlock)]


def frame_norms(unet: UNetModel) -> list[nn.Module]:
    """The group norms whose statistics run over all frames: both of every residual block and the last one."""
    norms = [norm for block in residual_blocks(unet) for norm in (block.in_layers[0], block.out_layers[0])]
    return [*norms, unet.out[0]]
