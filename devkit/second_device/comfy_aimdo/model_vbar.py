"""The device's memory for the layers of a model."""

from __future__ import annotations

import torch

Allocation = tuple["ModelVBAR", torch.Tensor, int]
_NO_ROOM = 3
"""Every so many allocations find no room."""


class ModelVBAR:
    """The layers of one model; what was freed has to be filled again."""

    def __init__(self, size: int, device: int) -> None:
        self.device = device
        self._count = 0
        self._without_room: set[int] = set()
        self._generation = 0

    def prioritize(self, clamp: int | None = None) -> None:
        """See the library."""

    def deprioritize(self) -> None:
        """See the library."""

    def alloc(self, size: int) -> Allocation:
        """Room for one layer, which may not be there when it is asked for."""
        memory = torch.empty(size, dtype=torch.uint8, device=torch.device("second", self.device))
        self._count += 1
        if self._count % _NO_ROOM == 0:
            self._without_room.add(memory.data_ptr())
        return self, memory, size

    def fault(self, memory: torch.Tensor) -> tuple[int] | None:
        """What the content is known by, or None without room."""
        return None if memory.data_ptr() in self._without_room else (self._generation,)

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
