"""`dev.py bench NAME`: run benchmarks.NAME, which has options of its own."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence

BENCHMARKS = {
    "edits": "does editing work",
    "loss": "how many tuning steps it takes",
    "speed": "time and memory",
}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark that `argv` names with its options. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description="Run one of the benchmarks.")
    helps = "; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items())
    parser.add_argument("benchmark", choices=BENCHMARKS, help=helps)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="see dev.py bench BENCHMARK --help")
    chosen = parser.parse_args(argv)
    sys.argv[1:] = chosen.options
    runpy.run_module(f"benchmarks.{chosen.benchmark}", run_name="__main__", alter_sys=True)
    return 0  # not reached: the benchmark ends with its exit code
