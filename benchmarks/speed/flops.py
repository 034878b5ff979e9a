"""How much arithmetic a piece of work is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_aten = torch.ops.aten


def _attention(q: tuple, k: tuple, v: tuple, *args: object, **kwargs: object) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad: tuple, q: tuple, k: tuple, v: tuple, *args: object, **kwargs: object) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


# Torch's counter knows the attention kernels of GPUs only.
_CPU_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in ``work``."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        work()
    return counter.get_total_flops()
