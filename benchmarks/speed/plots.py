"""Pictures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.chart import Line, draw

from .diffusers_stages import TUNING


def write_plots(report: dict, folder: Path) -> list[Path]:
    """Writes PNG files of what ``report`` holds and returns their paths."""
    pictures = {}
    if "stages" in report:
        pictures["stages.png"] = _bars(report)
    if "growth_frames" in report:
        pictures["frames.png"] = _growth(report["growth_frames"], "frames", "frames of the clip")
        pictures["resolution.png"] = _growth(report["growth_sides"], "latent_side", "latent width and height")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / name)
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return paths


def _growth(rows: Sequence[dict], key: str, label: str) -> np.ndarray:
    x = [row[key] for row in rows]
    lines = [
        Line(name, x, [1000 * row[field] / row["frames"] for row in rows])
        for name, field in (
            ("plain image model", "plain"),
            ("without temporal layers", "without temporal layers"),
            ("inflated", "inflated"),
        )
    ]
    return draw(lines, label, "milliseconds a frame")


def _bars(report: dict) -> np.ndarray:
    stages = ["inversion", "guided sampling", *TUNING]
    lines = []
    for host in dict.fromkeys(row["host"] for row in report["stages"]):
        found = {row["stage"]: row["in_p"] for row in report["stages"] if row["host"] == host}
        places = [place for place, stage in enumerate(stages) if stage in found]
        lines.append(Line(host, places, [found[stages[place]] for place in places], dots=True))
    short = [stage.removeprefix("tuning, checkpointing ") for stage in stages]
    return draw(
        lines, "inversion, guided sampling; tuning with checkpointing none, attention, all", "P", short
    )
