"""Seconds and peak memory of a stretch of work."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """What a stage took. peak_mb: on a GPU what torch had allocated at most, else the process's resident memory."""

    seconds: float = 0.0
    peak_mb: float | None = None

    def as_dict(self) -> dict:
        """For JSON."""
        peak = None if self.peak_mb is None else round(self.peak_mb)
        return {"seconds": round(self.seconds, 2), "peak_mb": peak}


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Fill in the yielded `Cost` when the block ends; the peak is None where the system does not tell."""
    cost = Cost()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_peak()
    started = time.perf_counter()
    yield cost
    if on_gpu:
        torch.cuda.synchronize(device)
        cost.peak_mb = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        cost.peak_mb = _peak_mb()
    cost.seconds = time.perf_counter() - started


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _peak_mb() -> float | None:
    try:
        match = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(match[1]) / 1024 if match else None
