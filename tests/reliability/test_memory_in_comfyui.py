"""Memory in ComfyUI: what a tuning needs is told, running out of it is survived, and nothing is left behind."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from workbench import Workbench, assert_plain

STATUS = Path("/proc/self/status")
CYCLES = int(os.environ.get("TAV_CYCLES", "10"))
FAILURES = 20
# What one cycle must not leave: less than a tenth of the tiny UNet.
MOST_GROWTH = 300_000


def failing_at(monkeypatch, bench: Workbench, step: int, error: Exception) -> None:
    """Makes every tuning raise ``error`` in its ``step``-th step."""
    tuner = bench.pack("tav_core.tuning.tuner").Tuner
    original = tuner._accumulate

    def accumulate(self, index):
        # Not in the estimate, which runs the same code on shapes.
        if self.step_count == step - 1 and self.latents.device.type != "meta":
            raise error
        return original(self, index)

    monkeypatch.setattr(tuner, "_accumulate", accumulate)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried ..."
        ),
        MemoryError(),
    ],
    ids=["GPU", "CPU", "Python"],
)
def test_running_out_of_memory_saves_and_says_what_helps(
    bench: Workbench, folder: Path, monkeypatch, error: Exception
) -> None:
    name = f"oom/{type(error).__name__}"
    run = {"steps": 5, "seed": 901, "resume": True, "filename_prefix": name}
    # A size from which going smaller is worth an advice.
    run["latent"] = {"samples": bench.latent["samples"].repeat(1, 1, 2, 2)}
    run["learning_rate"] = 1e-3 + 1e-5 * len(str(error))  # a run of its own for each kind
    with monkeypatch.context() as patched:
        failing_at(patched, bench, 3, error)
        with pytest.raises(MemoryError) as caught:
            bench.tune(**run)
    saved = folder / f"{name}_00001.safetensors"
    assert_plain(
        str(caught.value), "at step 3", saved.name, "need about", "gradient_checkpointing all about", "pixels"
    )
    assert caught.value.__context__ is None, "the first error would keep all tensors of the step"
    bench.tune(**run)
    whole = bench.tune(**{**run, "filename_prefix": f"{name}-whole", "resume": False})[1]
    resumed = load_file(saved)
    assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.tensors.items())


def test_the_advice_is_for_the_checkpointing_that_was_chosen(bench: Workbench, monkeypatch) -> None:
    failing_at(monkeypatch, bench, 1, MemoryError())
    management = importlib.import_module("comfy.model_management")
    real = management.get_free_memory
    monkeypatch.setattr(
        management,
        "get_free_memory",
        lambda device=None, torch_free_too=False: real(device, torch_free_too) if torch_free_too else 1000,
    )
    with pytest.raises(MemoryError) as caught:
        bench.tune(seed=907, gradient_checkpointing="automatic")
    assert "need about" in str(caught.value) and "gradient_checkpointing all" not in str(caught.value)


def test_another_error_is_not_taken_for_it(bench: Workbench, monkeypatch) -> None:
    failing_at(monkeypatch, bench, 1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        bench.tune(seed=902)


def test_the_need_is_told_before_the_first_step(bench: Workbench, monkeypatch, caplog) -> None:
    failing_at(monkeypatch, bench, 1, RuntimeError("not reached before the estimate"))
    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="not reached"):
        bench.tune(seed=903)
    assert any("needs about" in record.getMessage() for record in caplog.records)


def test_an_estimate_that_fails_is_said_and_tuning_goes_on(bench: Workbench, monkeypatch, caplog) -> None:
    memory = bench.pack("nodes.comfy.tuning.memory")

    def unknown(*_):
        raise NotImplementedError("no such operator on the meta device")

    monkeypatch.setattr(memory, "estimate_memory", unknown)
    monkeypatch.setattr(memory, "_KEPT", {})
    _, weights, _ = bench.tune(steps=2, seed=905, gradient_checkpointing="automatic")
    assert weights.metadata.steps == 2
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("cannot be estimated (no such operator on the meta device)" in text for text in warnings)


def test_too_little_free_memory_is_a_warning_with_advice(bench: Workbench, monkeypatch, caplog) -> None:
    management = importlib.import_module("comfy.model_management")

    def little(device=None, torch_free_too=False):
        return (1000, 1000) if torch_free_too else 1000

    monkeypatch.setattr(management, "get_free_memory", little)
    bench.tune(seed=904)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any(
        "free beside the network" in text and "gradient_checkpointing all" in text for text in warnings
    )


def test_a_card_s_preset_changes_no_more_than_it_must_and_says_so(
    bench: Workbench, monkeypatch, caplog
) -> None:
    memory = bench.pack("nodes.comfy.tuning.memory")
    settings = bench.pack("tav_core.tuning.settings").TuningSettings(gradient_checkpointing="none")
    clip = torch.empty(8, 4, 16, 16, device="meta")
    run = bench.pack("tav_core.tuning.run").TuningRun(clip, bench.source[0][0], settings)
    planner = memory.TuningMemory(bench.model, run)
    with caplog.at_level(logging.INFO):
        assert planner.choose("as set") == settings
        assert planner.choose("fits 24 GB") == settings
        limit = planner.needed(settings).total - 1
        monkeypatch.setattr(memory, "budget", lambda card: limit)
        chosen = planner.choose("fits 6 GB")
    assert chosen.gradient_checkpointing in ("attention", "all") and chosen.query_rank == 0
    assert planner.needed(chosen).total <= limit
    assert any(
        f"gradient_checkpointing {chosen.gradient_checkpointing}" in r.getMessage() for r in caplog.records
    )


def living(bench: Workbench) -> Counter:
    """How many patchers, tuners and networks there are."""
    gc.collect()
    kinds = {
        "ModelPatcher",
        "Tuner",
        "TuningHost",
        "UNetModel",
        "TemporalLayers",
        "TuningSession",
        "Overrides",
    }
    return Counter(name for name in (type(thing).__name__ for thing in gc.get_objects()) if name in kinds)


def resident() -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmRSS")


def grows(bench: Workbench, work, times: int) -> tuple[Counter, float]:
    """New objects, and bytes per time, after ``work`` ran ``times`` times; the first three are to warm up."""
    for _ in range(3):
        work()
    objects = living(bench)
    before = resident() if STATUS.exists() else 0
    for _ in range(times):
        work()
    new = living(bench)
    new.subtract(objects)
    after = resident() if STATUS.exists() else 0
    return +new, (after - before) / times


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("broken")],
    ids=["out of memory", "any other"],
)
def test_failing_runs_leave_nothing(bench: Workbench, monkeypatch, error: Exception) -> None:
    failing_at(monkeypatch, bench, 1, error)

    def fail() -> None:
        with pytest.raises((MemoryError, RuntimeError)):
            bench.tune(seed=905)
        error.__traceback__ = None  # the one error object is raised again and again

    objects, growth = grows(bench, fail, FAILURES)
    assert not objects, objects
    assert growth < MOST_GROWTH


def test_cycles_of_tune_apply_and_sample_leave_nothing(
    bench: Workbench, capsys: pytest.CaptureFixture
) -> None:
    def cycle() -> None:
        _, weights, _ = bench.tune(steps=1, seed=906)
        bench.draw(bench.apply(weights), steps=1)

    objects, growth = grows(bench, cycle, CYCLES)
    if "TAV_CYCLES" in os.environ:
        with capsys.disabled():
            sys.stdout.write(f"\n{CYCLES} cycles, {growth:.0f} bytes each\n")
    assert not objects, objects
    assert growth < MOST_GROWTH
