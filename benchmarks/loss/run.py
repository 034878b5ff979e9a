"""Tunes on one rendered clip with each schedule and measures the held-out loss as it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.edits.cases import SHIPPED, load_cases
from benchmarks.edits.model import Model, as_frames
from devkit.world.clips import render_clip
from tav_core.tuning.tuner import Tuner

from .schedules import OFFICIAL, OFFICIAL_RATE, OFFICIAL_STEPS, STEPS, settings

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
