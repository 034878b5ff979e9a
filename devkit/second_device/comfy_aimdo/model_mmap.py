"""Model files as read-only memory."""

from __future__ import annotations

import mmap
import os
from typing import BinaryIO

import numpy as np


class ModelMMAP:
    """A file in memory. Writing there ends the process, as with the library."""

    def __init__(self, path: str | os.PathLike) -> None:
        self._file = open(path, "rb")
        self._content = np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def get(self) -> int:
        """The address."""
        return self._content.ctypes.data

    def get_file_handle(self) -> BinaryIO:
        """What `host_buffer.read_file_to_device` is given."""
        return self._file

    def bounce(self) -> bool:
        """See the library."""
        return True
