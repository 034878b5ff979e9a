"""What a tuning is estimated to need."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning.memory import (
    AllocationMeter,
    budget,
    estimate_memory,
    first_that_fits,
    gigabytes,
    smaller,
)
from tav_core.tuning.settings import TuningSettings

PROBE = Path(__file__).parents[2] / "reliability" / "memory_probe.py"
CLIP = (6, 4, 16, 16)
PROMPT = (1, 5, 16)


@pytest.fixture(scope="module")
def needed(make_unet):
    """needed(clip, **settings) is the estimate for the tiny UNet."""
    with torch.device("meta"):
        host = DiffusersHost(make_unet(), NoiseSchedule.scaled_linear())

    def estimate(clip: tuple = CLIP, **settings: object):
        return estimate_memory(
            host, clip, PROMPT, TuningSettings(**{"gradient_checkpointing": "none", **settings})
        )

    return estimate


def test_the_meter_counts_what_lives_and_the_most_that_lived():
    with AllocationMeter() as meter:
        a = torch.empty(1000, device="meta")
        b = a + 1
        view = b[:10]
        assert meter.live == meter.peak == 8000
        del a, b
        assert meter.live == 4000, "a view keeps what it shows"
        del view
    assert (meter.live, meter.peak) == (0, 8000)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux' count of resident memory"
)
@pytest.mark.parametrize(
    "case",
    [
        {"widths": [32, 32], "frames": 8, "side": 32},
        {"widths": [128, 256, 256], "frames": 4, "side": 16, "checkpointing": "all", "rank": 4},
    ],
    ids=["mostly activations", "mostly weights"],
)
def test_the_estimate_is_within_10_percent_of_what_was_then_used(case):
    command = [sys.executable, str(PROBE), json.dumps(case | {"context": 64})]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout)["ratio"] == pytest.approx(1, abs=0.1)


def test_what_needs_less_is_estimated_at_less(needed):
    most = needed()
    attention, everything = (needed(gradient_checkpointing=mode) for mode in ("attention", "all"))
    assert everything.step < attention.step < most.step
    assert everything.network == most.network and everything.learned == most.learned
    assert needed(query_rank=2).learned < most.learned
    assert needed(trainable="temporal").learned < most.learned
    assert needed((3, 4, 16, 16)).step < 0.7 * most.step
    assert needed((6, 4, 8, 8)).step < 0.5 * most.step
    windows = needed((12, 4, 16, 16), frames_per_step=6)
    assert windows.total == pytest.approx(most.total, rel=0.05)


def test_what_learns_has_master_gradient_and_two_moments(needed, host, clip, context):
    from tav_core.tuning.tuner import Tuner

    masters = sum(p.nbytes for p in Tuner(host, clip, context, TuningSettings()).parameters.values())
    assert needed().learned == 4 * masters
    assert needed().network == sum(p.nbytes for p in host.unet.parameters())


def test_an_estimate_leaves_no_trace(make_unet):
    with torch.device("meta"):
        host = DiffusersHost(make_unet(), NoiseSchedule.scaled_linear())
    before = torch.random.get_rng_state()
    estimate_memory(host, CLIP, PROMPT, TuningSettings())
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [module for module in host.unet.modules() if "forward" in module.__dict__]


def needs(settings: TuningSettings) -> int:
    """A made-up need: 1 to 3 by checkpointing, one less for a low rank, times the frames."""
    modes = {"none": 3, "attention": 2, "all": 1}
    base = modes[settings.gradient_checkpointing] * 10 + (0 if settings.query_rank else 5)
    return base * (settings.frames_per_step or 24)


PAPER = TuningSettings(gradient_checkpointing="none")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (24 * 35, PAPER),
        (24 * 35 - 1, replace(PAPER, gradient_checkpointing="attention")),
        (24 * 15, replace(PAPER, gradient_checkpointing="all")),
        (24 * 15 - 1, replace(PAPER, gradient_checkpointing="all", query_rank=16)),
        (12 * 10, replace(PAPER, gradient_checkpointing="all", query_rank=16, frames_per_step=12)),
        (1, replace(PAPER, gradient_checkpointing="all", query_rank=16, frames_per_step=2)),
    ],
)
def test_a_card_takes_away_no_more_than_it_must(limit, expected):
    assert first_that_fits(smaller(PAPER, 24), limit, needs) == expected


def test_nothing_is_made_larger():
    given = TuningSettings(gradient_checkpointing="all", query_rank=4, frames_per_step=6, trainable="queries")
    for candidate in smaller(given, 24):
        assert candidate.gradient_checkpointing == "all"
        assert candidate.query_rank == 4
        assert candidate.frames_per_step <= 6
    assert all(c.query_rank == 0 for c in smaller(TuningSettings(trainable="temporal"), 8))


def test_a_card_keeps_a_reserve_and_sizes_are_said_plainly():
    assert 0.8 * 8 * 2**30 < budget(8) < 7.25 * 2**30
    assert gigabytes(2**30 * 7.26) == "7.3 GB"
    assert gigabytes(85 * 2**20) == "85 MB"
