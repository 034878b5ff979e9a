"""Every example workflow runs in the real server and makes pictures that mean something."""

from __future__ import annotations

import re

import pytest
import torch
from runs import FRAMES, Runs

from devkit.paths import WORKFLOWS
from devkit.video import read_video
from devkit.workflow import find

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
COMPLAINTS = re.compile(
    r"lora key not loaded|missing controlnet|control could not be applied|fit no weight of|clip missing|Traceback|"
    r"\[WARNING\]|\[ERROR\]|Warning:",
    re.IGNORECASE,
)
EXPECTED = {"dreambooth": "tuned on another base model"}
"""What a workflow's run is meant to warn of."""


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_draws(runs: Runs, name: str) -> None:
    run = runs.of(name)
    for decoder in find(run.prompt, "VAEDecode"):
        frames = run.frames(decoder)
        assert frames.shape[-1] == 3 and len(frames) >= FRAMES
        # Neither black nor one colour, in any frame.
        assert bool((frames.flatten(1).std(dim=1) > 0.03).all())
    for kind in ("TAVSample", "SamplerCustomAdvanced"):
        for sampler in find(run.prompt, kind):
            assert bool(run.latents(sampler).isfinite().all())
    for node in find(run.prompt, "SaveVideo"):
        files = run.result.files(node)
        for file, filmed in zip(files, run.filmed(node).chunk(len(files)), strict=True):
            video = read_video(run.output / file["subfolder"] / file["filename"])
            # The codec's own loss is all that lies between.
            assert float((torch.from_numpy(video).float() / 255 - filmed[: len(video)]).abs().mean()) < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_log_complains(runs: Runs, name: str) -> None:
    lines = [line for line in runs.of(name).log.splitlines() if COMPLAINTS.search(line)]
    expected = EXPECTED.get(name)
    if expected:
        assert any(expected in line for line in lines)
        lines = [line for line in lines if expected not in line]
    assert lines == []
