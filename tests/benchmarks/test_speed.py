"""The speed and loss benchmarks: what they count, and whole small runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.chart import Line, draw
from benchmarks.loss import SCHEDULES, held_out, settings
from benchmarks.loss import main as loss
from benchmarks.speed import run as runs
from benchmarks.speed.__main__ import main as speed
from benchmarks.speed.diffusers_stages import TUNING
from benchmarks.speed.flops import flops
from benchmarks.speed.memory import peak
from benchmarks.speed.plots import write_plots
from benchmarks.speed.run import Plan, run
from benchmarks.speed.sizes import SIZES
from benchmarks.speed.table import TARGETS, tables
from benchmarks.speed.timing import interleaved
from tav_core.tuning.settings import TuningSettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_stage_is_measured_against_the_yardstick_beside_it():
    p, found = interleaved({"twice": lambda: time.sleep(0.02)}, lambda: time.sleep(0.01), 5, CPU)
    assert 0.009 < p < 0.05
    assert 1.2 < found["twice"]["in_p"] < 2.5


def test_arithmetic_of_products_and_of_attention_forwards_and_backwards():
    a = torch.randn(8, 16)
    assert flops(lambda: a @ a.T) == 2 * 8 * 16 * 8
    q = torch.randn(1, 2, 64, 16, requires_grad=True)
    forward = 2 * (2 * 2 * 64 * 64 * 16)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert flops(lambda: attend(q, q, q)) == forward
    assert flops(lambda: attend(q, q, q).sum().backward()) == forward + 2.5 * forward


def test_memory_is_that_of_the_stage_and_not_of_this_process():
    held = torch.ones(300 * 2**18)  # 300 MB
    found = peak("tiny", "diffusers", "inversion", "cpu")
    assert 0 < found["libraries_mb"] < found["peak_mb"] < found["libraries_mb"] + 200
    assert held.sum() > 0


def test_a_whole_small_run(tmp_path, comfyui, capsys):
    options = ["--size", "tiny", "--rounds", "1", "--parts", "stages,presets,codec,growth"]
    file = tmp_path / "report.json"
    assert speed([*options, "--json", str(file), "--plots", str(tmp_path)]) == 0
    report = json.loads(file.read_text())
    stages = {(row["host"], row["stage"]) for row in report["stages"]}
    for host in ("diffusers", "comfyui"):
        assert {(host, stage) for stage in (*TARGETS, "P")} <= stages
    assert all(row["seconds"] > 0 and row["flops"] > 0 for row in report["stages"])
    assert [row["frames"] for row in report["growth_frames"]] == [4, 8]
    assert [row["steps"] for row in report["growth_steps"]] == [1, 2, 4, 8]
    (preset,) = report["presets"]
    assert preset["gradient_checkpointing"] == "none" and 0 < preset["estimate_mb"] < preset["peak_mb"]
    codec = {row["stage"]: row["tensors_mb"] for row in report["codec"]}
    assert (
        codec["encoding a frame, in tiles"] < codec["encoding a frame"] < codec["encoding a frame, 4 at once"]
    )
    assert "tuning, checkpointing all" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "frames.png",
        "resolution.png",
        "stages.png",
    ]
    assert "5.5" in tables({**report, "size": "cpu"})  # targets stand beside their configuration only
    assert "5.5" not in tables({**report, "codec": [], "growth_frames": [], "growth_sides": [], "stages": []})


def test_a_stage_that_a_gpu_has_no_room_for_is_left_out(monkeypatch, tmp_path):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def no_room(size, host, stage, device):
        if stage == "inversion":
            raise MemoryError(stage)
        return {"peak_mb": 1.0, "libraries_mb": 0.0}

    stages = {
        name: too_large if name == "inversion" else lambda: torch.ones(2) @ torch.ones(2) for name in TARGETS
    }
    stages |= {name: lambda: torch.ones(2) @ torch.ones(2) for name in TUNING}
    monkeypatch.setattr(runs, "open_host", lambda *_: lambda: {n: lambda s=s: s for n, s in stages.items()})
    monkeypatch.setattr(runs, "peak", no_room)
    said: list[str] = []
    plan = Plan(SIZES["tiny"], ("stages", "memory"), ("diffusers",), rounds=1)
    report = run(plan, said.append)
    for part in ("stages", "memory"):
        names = {row["stage"] for row in report[part]}
        assert "inversion" not in names and "guided sampling" in names
    assert sum("inversion: left out" in line for line in said) == 2
    assert tables(report)
    assert [path.name for path in write_plots(report, tmp_path)] == ["stages.png"]


def test_presets_of_a_card_s_size_are_estimated_without_one(comfyui):
    found = run(Plan(SIZES["sd15"], parts=("presets",)), print)["presets"]
    by = {(row["frames"], row["preset"]): row for row in found}
    assert len(by) == 12 and all("peak_mb" not in row for row in found)
    assert by[24, "fits 12 GB"]["estimate_mb"] < 11 * 1024
    assert by[16, "fits 8 GB"]["estimate_mb"] < 7.5 * 1024
    assert by[16, "fits 8 GB"]["query_rank"] == by[24, "fits 12 GB"]["query_rank"] == 0


def test_held_out_pairs_cover_the_schedule_and_are_always_the_same():
    latents = torch.zeros(2, 4, 3, 3)
    first, again = held_out(latents, 10, 1000), held_out(latents, 10, 1000)
    assert [t for t, _ in first] == [50 + 100 * i for i in range(10)]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert not torch.equal(first[0][1], first[1][1])


def test_every_schedule_makes_settings():
    official = settings("official", 3e-5, 500, 0)
    assert official == TuningSettings.official(gradient_checkpointing="none")
    shown = settings("default", TuningSettings().learning_rate, TuningSettings().steps, 0)
    assert shown == replace(TuningSettings(), gradient_checkpointing="none")
    assert all(settings(name, 1e-4, 200, 1).steps == 200 for name in SCHEDULES)


def test_a_small_comparison_of_schedules(tmp_path, tiny_checkpoint):
    file = tmp_path / "loss.json"
    name = "low-discrepancy"
    options = [
        "--steps",
        "2",
        "--official-steps",
        "2",
        "--schedules",
        name,
        "--checkpoint",
        str(tiny_checkpoint),
    ]
    assert loss([*options, "--json", str(file), "--plots", str(tmp_path)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["schedule"] for row in rows] == ["official", name]
    assert rows[0]["reached"] == 2
    assert rows[0]["curve"][0] == rows[1]["curve"][0]  # untuned
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_a_chart_shows_each_line_in_its_colour():
    picture = draw([Line("a", [0, 1], [0, 1]), Line("b", [0, 1], [1, 0.5])], "x", "y")
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert picture.dtype == np.uint8
    assert {(31, 119, 180), (214, 39, 40)} <= colours
