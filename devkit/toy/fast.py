"""Quicker equivalents, for training on a CPU, of what torch does slowly there."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional as F


class _RowNorm(nn.GroupNorm):
    """Group norm as a layer norm over each group, which torch runs several times faster."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        rows = value.reshape(len(value), self.num_groups, -1)
        normed = F.layer_norm(rows, rows.shape[-1:], eps=self.eps).view(value.shape)
        shape = (1, -1) + (1,) * (value.ndim - 2)
        weight, bias = self.weight.to(normed.dtype), self.bias.to(normed.dtype)
        return torch.addcmul(bias.view(shape), normed, weight.view(shape))


def speed_up(model: nn.Module) -> nn.Module:
    """Let a diffusers model norm and attend quicker on a CPU; weights and results stay."""
    for module in model.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = _RowNorm
    if hasattr(model, "set_attn_processor"):
        model.set_attn_processor(AttnProcessor())
    return model
