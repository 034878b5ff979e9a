"""Times of several pieces of work, each beside the same yardstick."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

_MATRIX = {"cpu": 2048, "cuda": 8192}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes."""
    _finish(device)
    started = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - started


def interleaved(
    stages: Mapping[str, Callable[[], object]],
    yardstick: Callable[[], object],
    rounds: int,
    device: torch.device,
) -> tuple[float, dict[str, dict[str, float]]]:
    """The yardstick's median seconds P, and of each stage its median seconds and its median ratio to P.

    In each round the yardstick runs before and after every stage, and the stage is divided by the mean of these
    two: a machine that gets slower for a while slows both.
    """
    for work in (yardstick, *stages.values()):
        work()  # the first run builds what later ones have
    times: dict[str, list[float]] = {name: [] for name in stages}
    ratios: dict[str, list[float]] = {name: [] for name in stages}
    yard = [seconds(yardstick, device)]
    for _ in range(rounds):
        for name, stage in stages.items():
            times[name].append(seconds(stage, device))
            yard.append(seconds(yardstick, device))
            ratios[name].append(2 * times[name][-1] / (yard[-2] + yard[-1]))
    found = {
        name: {
            "seconds": statistics.median(times[name]),
            "in_p": statistics.median(ratios[name]),
            "in_p_least": min(ratios[name]),
            "in_p_most": max(ratios[name]),
        }
        for name in stages
    }
    return statistics.median(yard), found


def matrix_product_rate(dtype: torch.dtype, device: torch.device, rounds: int = 7) -> float:
    """FLOP/s of a large square matrix product."""
    side = _MATRIX.get(device.type, 2048)
    a = torch.randn(side, side, device=device).to(dtype)
    a @ a
    return 2 * side**3 / statistics.median(seconds(lambda: a @ a, device) for _ in range(rounds))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
