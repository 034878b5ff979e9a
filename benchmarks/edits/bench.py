"""Runs every case of a cases file and gathers the results."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from devkit.world.judge import load_judge
from tav_core.metrics.clip_score import ClipScore
from tav_core.metrics.psnr import psnr

from .cases import Cases
from .companions import Companions
from .measure import finite, measure
from .meter import Cost
from .model import Model
from .rows import Row
from .run import SourceRun
from .store import Case, Store, all_cases


@dataclass(frozen=True)
class Plan:
    """What to run and with what.

    clip: a local folder with a CLIP model, or None. companions: the files that rows need besides the checkpoint, by
    kind (see `Row.companion`).
    """

    cases: Cases
    rows: list[Row]
    checkpoint: Path
    judge: Path
    folder: Path
    limit: int | None = None
    clip: Path | None = None
    device: str = "cpu"
    companions: Mapping[str, Path] = field(default_factory=dict)


def open_store(plan: Plan) -> Store:
    """Where the plan's results are."""
    clip = sorted(plan.clip.glob("*.safetensors")) if plan.clip else []
    return Store(plan.folder, plan.cases.settings, [plan.checkpoint, plan.judge, *clip], plan.companions)


def run_cases(plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """Compute what is missing of the plan's cases and return all results, in the order of the cases."""
    store = open_store(plan)
    todo = all_cases(plan.cases, plan.rows, plan.limit)
    results = {store.path(case): store.read(case) for case in todo}
    missing = [case for case in todo if results[store.path(case)] is None]
    say(f"{len(todo)} cases, {len(todo) - len(missing)} of them done before; results in {plan.folder}")
    if missing:
        for case, result in _computed(plan, store, missing, say):
            results[store.path(case)] = result
    return list(results.values())


def _computed(plan: Plan, store: Store, missing: list[Case], say: Callable[[str], None]):
    device = torch.device(plan.device)
    model = Model(plan.checkpoint, device)
    judge = load_judge(plan.judge)
    clip_score = ClipScore(plan.clip, device) if plan.clip else None
    companions = Companions(plan.checkpoint, plan.companions, device)
    started, done = time.perf_counter(), 0
    for _, group in itertools.groupby(missing, key=lambda case: (case.source.id, case.seed)):
        run = None
        for case in group:
            run = run or SourceRun(model, case.source, plan.cases.settings, case.seed, companions)
            edited = run.edit(case.row, case.edit.prompt)
            lineup = run.lineup(judge) if case.row.personalised else None
            result = {
                "source": case.source.id,
                "row": case.row.name,
                "kind": case.edit.kind,
                "prompt": case.edit.prompt,
                "seed": case.seed,
                **measure(judge, edited.frames, run.clip, case.source, case.edit, clip_score, lineup),
                **_reconstruction(run, case.row),
                "costs": _costs(edited.costs),
            }
            store.write(case, result, edited.frames)
            done += 1
            left = (time.perf_counter() - started) / done * (len(missing) - done)
            say(f"[{done}/{len(missing)}, {left / 60:.0f} min left] {_line(result)}")
            yield case, result


def _reconstruction(run: SourceRun, row: Row) -> dict:
    result = run.reconstruction(row)
    if result is None:
        return {"reconstruction_psnr": None, "autoencoder_psnr": None}
    return {
        "reconstruction_psnr": finite(psnr(result.frames, run.frames)),
        "autoencoder_psnr": finite(psnr(run.autoencoded(), run.frames)),
    }


def _costs(costs: dict[str, Cost]) -> dict:
    return {stage: cost.as_dict() for stage, cost in costs.items()}


def _line(result: dict) -> str:
    errors = sorted(result["motion_errors"])
    kept = result["source_kept"]
    return (
        f"{result['source']} -> {result['prompt']} ({result['row']}): "
        f"edit {100 * result['edit_success']:.0f} %, "
        f"kept {'-' if kept is None else f'{100 * kept:.0f} %'}, "
        f"motion {errors[len(errors) // 2]:.1f} px"
    )
