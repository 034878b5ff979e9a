"""`dev.py bench loss`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from benchmarks.chart import Line, draw
from devkit.paths import TINY_CHECKPOINT
from devkit.say import DevError, say

from .run import Plan, compare
from .schedules import OFFICIAL_RATE, OFFICIAL_STEPS, SCHEDULES, STEPS


def main(argv: Sequence[str]) -> int:
    """Compares, prints, writes what was asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="dev.py bench loss",
        description="Steps that each schedule needs for the held-out loss that the official one has at its end.",
    )
    parser.add_argument(
        "--schedules",
        metavar="A;B",
        help=f"separated by semicolons; default: all. Known: {'; '.join(SCHEDULES)}",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of the schedules; default: %(default)s")
    parser.add_argument("--official-steps", type=int, default=OFFICIAL_STEPS, help="default: %(default)s")
    parser.add_argument(
        "--rate", type=float, default=OFFICIAL_RATE, help="official learning rate; default: %(default)s"
    )
    parser.add_argument(
        "--clips", default="0", metavar="N,N", help="of the edit benchmark's; default: the first"
    )
    parser.add_argument("--seeds", default="0", metavar="N,N", help="default: 0")
    parser.add_argument("--checkpoint", type=Path, default=TINY_CHECKPOINT, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write a picture of the curves there")
    options = parser.parse_args(argv)
    names = options.schedules.split(";") if options.schedules else list(SCHEDULES)
    unknown = [name for name in names if name not in SCHEDULES]
    if unknown:
        raise DevError(f"There is no schedule {unknown[0]!r}; known: {'; '.join(SCHEDULES)}.")
    if not options.checkpoint.is_file():
        raise DevError(f"There is no file {options.checkpoint}: train it first, or name another one.")
    torch.set_num_threads(1)  # tensors this small are slower on several
    plan = Plan(
        names,
        options.checkpoint,
        clips=_numbers(options.clips),
        seeds=_numbers(options.seeds),
        steps=options.steps,
        official_steps=options.official_steps,
        base_rate=options.rate,
    )
    rows = compare(plan, say)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"plan": {k: v for k, v in asdict(plan).items() if k != "checkpoint"}, "rows": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        say(f"wrote {options.json}")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        path = options.plots / "loss.png"
        cv2.imwrite(str(path), cv2.cvtColor(picture(rows), cv2.COLOR_RGB2BGR))
        say(f"wrote {path}")
    return 0


def picture(rows: list[dict]):
    """The curves of the first clip and seed."""
    first = [row for row in rows if (row["clip"], row["seed"]) == (rows[0]["clip"], rows[0]["seed"])]
    lines = [Line(row["schedule"], *zip(*row["curve"], strict=True)) for row in first]
    return draw(lines, "steps", "held-out loss", from_zero=False)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
