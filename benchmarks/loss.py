"""`dev.py bench loss`: how many tuning steps a schedule needs for the same held-out loss.

A rendered clip is tuned on with each schedule; the loss is measured on timesteps and noises that no run draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.chart import Line, draw
from benchmarks.edits.cases import SHIPPED, load_cases
from benchmarks.edits.model import Model, as_frames
from benchmarks.options import write
from devkit.paths import TINY_CHECKPOINT
from devkit.say import DevError, say
from devkit.world.clips import render_clip
from tav_core.settings import values_of
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

OFFICIAL = "official"
OFFICIAL_STEPS, OFFICIAL_RATE = TuningSettings.official().steps, TuningSettings.official().learning_rate
STEPS = TuningSettings().steps

_SPREAD = {"timesteps": "low-discrepancy"}
_DECAY = {"lr_scheduler": "cosine", "lr_warmup_steps": 10}
_OFFICIAL = values_of(TuningSettings.official())
_DEFAULT = {
    name: value
    for name, value in values_of(TuningSettings()).items()
    if value != _OFFICIAL[name] and name != "steps"
}

# Differences to the official settings; the learning rate is a factor on the official one.
SCHEDULES: dict[str, dict] = {
    OFFICIAL: {},
    "default": _DEFAULT,
    "default, min-SNR 5": {**_DEFAULT, "min_snr_gamma": 5.0},
    "default, two draws a step": {**_DEFAULT, "gradient_accumulation_steps": 2},
    "default, cosine": {**_DEFAULT, **_DECAY},
    "low-discrepancy": _SPREAD,
    "temporal x 5": {"temporal_lr_scale": 5.0},
    "low-discrepancy, temporal x 3": {**_SPREAD, "temporal_lr_scale": 3.0},
    "low-discrepancy, temporal x 10": {**_SPREAD, "temporal_lr_scale": 10.0},
    "low-discrepancy, rate x 3": {**_SPREAD, "learning_rate": 3.0},
    "low-discrepancy, rate x 3, cosine": {**_SPREAD, "learning_rate": 3.0, **_DECAY},
    "low-discrepancy, rate x 10, cosine": {**_SPREAD, "learning_rate": 10.0, **_DECAY},
}


def settings(name: str, base_rate: float, steps: int, seed: int) -> TuningSettings:
    """What the schedule ``name`` means for ``steps`` steps and the official rate ``base_rate``."""
    changes = dict(SCHEDULES[name])
    rate = base_rate * changes.pop("learning_rate", 1.0)
    return TuningSettings.official(
        steps=steps, learning_rate=rate, seed=seed, gradient_checkpointing="none", **changes
    )


_HELD_OUT_SEED = 1 << 32
"""Tuning seeds are below."""


@dataclass(frozen=True)
class Plan:
    """What to compare.

    clips: numbers of clips in the edit benchmark's cases. pairs: held-out timesteps and noises. every: steps between
    two measurements. base_rate: the official learning rate.
    """

    schedules: list[str]
    checkpoint: Path
    frames: int = 8
    clips: tuple[int, ...] = (0,)
    pairs: int = 40
    every: int = 20
    steps: int = STEPS
    official_steps: int = OFFICIAL_STEPS
    base_rate: float = OFFICIAL_RATE
    seeds: tuple[int, ...] = (0,)


def compare(plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """One row per clip, seed and schedule: the held-out losses as [step, loss], and the first step at the official's.

    The official's is its loss at the end of its run; the step is None where a schedule does not get there.
    """
    model = Model(plan.checkpoint, torch.device("cpu"))
    sources = load_cases(SHIPPED, {}).sources
    rows = []
    for clip in plan.clips:
        source = sources[clip]
        latents = model.encode(as_frames(render_clip(source.plan(plan.frames)).frames))
        context = model.embed(source.prompt)
        for seed in plan.seeds:
            goal = None
            for name in dict.fromkeys([OFFICIAL, *plan.schedules]):
                curve = _curve(model, latents, context, plan, name, seed)
                goal = curve[-1][1] if name == OFFICIAL else goal
                reached = next((step for step, loss in curve if loss <= goal), None)
                row = {"clip": source.id, "seed": seed, "schedule": name, "curve": curve, "reached": reached}
                rows.append(row)
                say(_line(row))
    return rows


def held_out(latents: Tensor, pairs: int, timesteps: int) -> list[tuple[int, Tensor]]:
    """Timesteps in the middles of equal parts of the schedule, each with noise that no tuning run draws."""
    drawn = []
    for i in range(pairs):
        generator = torch.Generator().manual_seed(_HELD_OUT_SEED + i)
        drawn.append((int((i + 0.5) * timesteps / pairs), torch.randn(latents.shape, generator=generator)))
    return drawn


@torch.no_grad()
def held_out_loss(tuner: Tuner, pairs: list[tuple[int, Tensor]]) -> float:
    """Mean squared error of the noise prediction over ``pairs``; ``tuner`` is attached."""
    schedule = tuner.host.schedule
    losses = []
    for timestep, noise in pairs:
        noisy = schedule.add_noise(tuner.latents, noise.to(tuner.latents), timestep)
        answer = tuner.host.predict(noisy, timestep, tuner.context)
        target = schedule.target(tuner.latents, noise.to(tuner.latents), timestep)
        losses.append(float(functional.mse_loss(answer, target)))
    return sum(losses) / len(losses)


def _curve(
    model: Model, latents: Tensor, context: Tensor, plan: Plan, name: str, seed: int
) -> list[tuple[int, float]]:
    steps = plan.official_steps if name == OFFICIAL else plan.steps
    pairs = held_out(latents, plan.pairs, model.host.schedule.timesteps)
    with Tuner(model.host, latents, context, settings(name, plan.base_rate, steps, seed)) as tuner:
        curve = [(0, held_out_loss(tuner, pairs))]
        while tuner.step_count < steps:
            tuner.step()
            if tuner.step_count % plan.every == 0 or tuner.step_count == steps:
                curve.append((tuner.step_count, held_out_loss(tuner, pairs)))
    return curve


def _line(row: dict) -> str:
    step, loss = row["curve"][-1]
    reached = "not reached" if row["reached"] is None else f"official's loss after {row['reached']} steps"
    return (
        f"{row['clip']}, seed {row['seed']}, {row['schedule']}: "
        f"{row['curve'][0][1]:.4f} -> {loss:.4f} in {step} steps; {reached}"
    )


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
        report = {"plan": {k: v for k, v in asdict(plan).items() if k != "checkpoint"}, "rows": rows}
        write(options.json, json.dumps(report, indent=1) + "\n")
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
