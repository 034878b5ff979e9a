"""Which of ComfyUI's attention functions the pack asks for."""

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import torch
from comfy.cli_args import args
from torch import Tensor

OVERRIDE = "optimized_attention_override"


def torch_attention(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """An attention override for transformer options: torch's own, whatever backend ``func`` is."""
    return comfy_attention.attention_pytorch(*args, **kwargs)


def fused_on_cpu(transformer_options: dict | None, device: torch.device) -> dict | None:
    """``transformer_options`` with torch's attention on a CPU, unless another was chosen.

    By default ComfyUI computes attention on a CPU in slices with a function made for small GPUs, which
    takes twice the time and memory of torch's.
    """
    chosen = comfy_attention.optimized_attention is not comfy_attention.attention_sub_quad
    chosen = chosen or args.use_quad_cross_attention or OVERRIDE in (transformer_options or {})
    if device.type != "cpu" or chosen:
        return transformer_options
    return {**(transformer_options or {}), OVERRIDE: torch_attention}
