"""The device's memory for the layers of a model."""

from __future__ import annotations

import torch
import torch_directml

Allocation = tuple["ModelVBAR", torch.Tensor | None, int]
_NO_ROOM = 3
"""Every so many allocations find no room."""


class ModelVBAR:
    """The layers of one model; what was freed has to be filled again."""

    def __init__(self, size: int, device: int) -> None:
        self._count = 0
        self._generation = 0

    def prioritize(self, clamp: int | None = None) -> None:
        """See the library."""

    def alloc(self, size: int) -> Allocation:
        """Memory for one layer, or None where there is no room."""
        self._count += 1
        room = self._count % _NO_ROOM != 0
        memory = torch.empty(size, dtype=torch.uint8, device=torch_directml.device()) if room else None
        return self, memory, size

    def fault(self, memory: torch.Tensor | None) -> tuple[int] | None:
        """What the content is known by, or None without room."""
        return None if memory is None else (self._generation,)

    def loaded_size(self) -> int:
        """Bytes on the device; none are counted."""
        return 0

    def free_memory(self, size: int) -> int:
        """Forgets all contents."""
        self._generation += 1
        return 0


def vbar_fault(allocation: Allocation) -> tuple[int] | None:
    """See `ModelVBAR.fault`."""
    return allocation[0].fault(allocation[1])


def vbar_unpin(allocation: Allocation | None) -> None:
    """See the library."""


def vbar_signature_compare(a: tuple[int] | None, b: tuple[int] | None) -> bool:
    """Whether the content is still there."""
    return a is not None and a == b


def vbars_reset_watermark_limits() -> None:
    """See the library."""


def vbars_analyze(device: int | None = None) -> int:
    """Bytes on the device; none are counted."""
    return 0
