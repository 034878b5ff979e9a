"""Pinned memory, which the second device does not have, and reading from a file to the device."""

from __future__ import annotations

import ctypes
from typing import BinaryIO


class HostBuffer:
    """A buffer that stays empty."""

    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, mark_cold: bool = True) -> None:
        self.size = 0

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        """See the library."""


def read_file_to_device(
    file: BinaryIO, offset: int, size: int, stream: int, address: int, device: int, mark_cold: bool = True
) -> None:
    """Reads a part of a file to an address on the device, which is ordinary memory."""
    file.seek(offset)
    ctypes.memmove(address, file.read(size), size)
