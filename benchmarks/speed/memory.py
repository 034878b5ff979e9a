"""The most memory that one stage ever takes, each in a fresh process.

On a CPU it is the process's largest resident size, the libraries included; `libraries_mb` is what it was when they
were loaded and no network was built. On a GPU it is what torch had allocated at most. Run as a module, this file is
that process.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

STEPS = 2
"""A second tuning step has the optimiser's state as well."""


def peak(size: str, host: str, stage: str, device: str) -> dict[str, float]:
    """`peak_mb` and `libraries_mb` of a stage, `seconds` of its second run.

    Raises MemoryError if a GPU was too small, RuntimeError with the process's last words if it failed otherwise.
    """
    command = [sys.executable, "-m", "benchmarks.speed.memory", size, host, stage, device]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 (our own module)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        too_small = any("OutOfMemoryError" in line for line in last)
        raise (MemoryError if too_small else RuntimeError)(f"{host}, {stage}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def main(size: str, host: str, stage: str, device: str) -> None:
    """Runs the stage and writes what it took as JSON."""
    import torch

    from .hosts import open_host, prepare
    from .sizes import SIZES
    from .timing import seconds

    where = torch.device(device)
    prepare(SIZES[size], where)
    stages = open_host(host, SIZES[size], where)
    before = _most_resident_mb()
    work = stages()[stage]()
    took = [seconds(work, where) for _ in range(STEPS)]
    on_gpu = where.type == "cuda"
    most = torch.cuda.max_memory_allocated(where) / 2**20 if on_gpu else _most_resident_mb()
    found = {"peak_mb": most, "libraries_mb": 0.0 if on_gpu else before, "seconds": took[-1]}
    sys.stdout.write(json.dumps(found) + "\n")


def _most_resident_mb() -> float:
    # getrusage would count what the parent held when it started this process.
    status = Path("/proc/self/status")
    if status.exists():
        match = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if match:
            return int(match[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


if __name__ == "__main__":
    main(*sys.argv[1:])
