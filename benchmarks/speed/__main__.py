"""`dev.py bench speed`: time, memory and arithmetic of each stage."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.options import some_of, write
from devkit.say import say

from .plots import write_plots
from .run import HOSTS, PARTS, Plan, run
from .sizes import SIZES
from .table import tables


def main(argv: Sequence[str]) -> int:
    """Measures, prints tables, writes what was asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="dev.py bench speed",
        description="Time, memory and arithmetic of each stage, beside the plain image model on the same frames.",
    )
    parser.add_argument(
        "--size", choices=sorted(SIZES), default="cpu", help="networks and clip; default: cpu"
    )
    parser.add_argument(
        "--parts", type=some_of(PARTS), default=PARTS, metavar="A,B", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--hosts", type=some_of(HOSTS), default=HOSTS, metavar="A,B", help=f"of {', '.join(HOSTS)}"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="times each stage is timed; default: 5"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write pictures there")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU for the size sd15 if there is one")
    options = parser.parse_args(argv)
    device = options.device or ("cuda" if options.size == "sd15" and torch.cuda.is_available() else "cpu")
    report = run(Plan(SIZES[options.size], options.parts, options.hosts, max(1, options.rounds), device), say)
    say("\n" + tables(report))
    if options.json:
        write(options.json, json.dumps(report, indent=1) + "\n")
    for path in write_plots(report, options.plots) if options.plots else []:
        say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
