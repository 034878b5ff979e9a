"""The weights and the configuration of the UNet that a MODEL was loaded with, under diffusers' names."""

import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ....tav_core.files.weights import fingerprint


def base_fingerprint(model: ModelPatcher) -> str:
    """`tav_core.files.weights.fingerprint` of the weights ``model`` was loaded with, without patches."""
    return fingerprint(base_weights(model))


def base_weights(model: ModelPatcher) -> dict[str, torch.Tensor]:
    """The UNet's tensors by diffusers names, where and as ``model`` was loaded, without patches."""
    patches = model.get_key_patches("diffusion_model.")
    weights = {}
    for theirs, ours in comfy.utils.unet_to_diffusers(dict(model.model.model_config.unet_config)).items():
        entry = patches.get(f"diffusion_model.{ours}")
        if entry is not None:
            weight, convert = entry[0]
            weights[theirs] = convert(weight, inplace=False).detach()
    return weights


def diffusers_config(model: ModelPatcher) -> dict:
    """The diffusers configuration of the UNet in ``model``, as far as the official code reads it."""
    config = model.model.model_config.unet_config
    width, layers = config["model_channels"], list(config["num_res_blocks"])
    channels = [width * factor for factor in config["channel_mult"]]
    depths = [config["transformer_depth"][sum(layers[:i])] for i in range(len(layers))]
    head_width = config.get("num_head_channels", -1)
    # In such a configuration "attention_head_dim" is the number of heads.
    heads = config.get("num_heads", -1) if head_width in (-1, None) else [c // head_width for c in channels]
    return {
        "sample_size": 64,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "block_out_channels": channels,
        "layers_per_block": layers[0],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "cross_attention_dim": config["context_dim"],
        "attention_head_dim": heads,
        "use_linear_projection": bool(config.get("use_linear_in_transformer", False)),
    }
