"""Allocations as tensors."""

from __future__ import annotations

import torch

from .model_vbar import Allocation


def aimdo_to_tensor(allocation: Allocation, device: torch.device) -> torch.Tensor:
    """The bytes of an allocation for which there is room."""
    return allocation[1]
