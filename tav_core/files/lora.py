"""The tuned queries as a LoRA file, for programs that know LoRAs but not Tune-A-Video.

Keys are the usual ones of Stable Diffusion LoRAs: ``lora_unet_<layer with underscores>`` and ``.lora_down.weight``,
``.lora_up.weight``, ``.alpha``, which ComfyUI's LoraLoader and diffusers read. Queries that were learned as full
matrices become ``.diff`` keys, which ComfyUI reads and diffusers does not. The temporal layers have no place in
such a file.
"""

from pathlib import Path

import torch
from torch import Tensor

from ..atomic import save_tensors
from .weights import TunedWeights, WeightsError, query_deltas


def lora_tensors(weights: TunedWeights) -> dict[str, Tensor]:
    """The query part by LoRA names, float32. Raises WeightsError if the weights hold no queries."""
    tensors = {}
    for layer, delta in query_deltas(weights.tensors).items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        up = weights.tensors.get(f"{layer}.lora_up.weight")
        if up is None:
            tensors[f"{name}.diff"] = delta
            continue
        tensors[f"{name}.lora_up.weight"] = up.float()
        tensors[f"{name}.lora_down.weight"] = weights.tensors[f"{layer}.lora_down.weight"].float()
        # The strength of a LoRA is alpha / rank; ours is 1.
        tensors[f"{name}.alpha"] = torch.tensor(float(up.shape[1]))
    if not tensors:
        raise WeightsError("the tuned weights hold no queries, only temporal layers, which no LoRA file can")
    return tensors


def save_lora(path: Path, weights: TunedWeights, dtype: torch.dtype = torch.float32) -> None:
    """Writes the query part as a LoRA file. Raises WeightsError without queries, and OSError if it cannot write."""
    tensors = {name: tensor.to(dtype) for name, tensor in lora_tensors(weights).items()}
    save_tensors(path, tensors, {"format": "pt", "modelspec.title": path.stem})
