"""The workflow for long clips, on more frames than a window holds."""

from __future__ import annotations

import torch
from runs import STEPS, Run, Runs

from devkit.workflow import set_inputs

LENGTH, WINDOW = 9, 4


def run(runs: Runs, window: int) -> Run:
    """Few frames from all over the clip, and windows to match."""

    def change(prompt: dict) -> None:
        settings = {
            "TAVLoadVideo": {"frame_count": LENGTH, "frame_stride": 5},
            "TAVTune": {"steps": 2, "frames_per_step": 3},
            "ContextWindowsManual": {"context_length": window, "context_overlap": 1},
            "TAVDDIMInversion": {"steps": STEPS},
            "TAVSample": {"steps": STEPS},
        }
        set_inputs(prompt, settings)

    return runs.changed("long-clip", change)


def test_windows_draw_about_what_the_whole_clip_gives(runs: Runs) -> None:
    windowed, whole = run(runs, WINDOW), run(runs, LENGTH)
    assert "context windows" in windowed.log
    assert windowed.latents().shape == whole.latents().shape == (LENGTH, 4, 16, 16)
    away = (windowed.frames() - whole.frames()).abs().mean()
    changed = (whole.frames() - whole.source()).abs().mean()
    assert 0 < float(away) < float(changed)
    assert bool(torch.isfinite(windowed.latents()).all())
