"""The library's public names: README's example runs as it stands there, and importing costs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tav_core
from tav_core.video.read import probe

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "devkit" / "shims"), str(ROOT)]),
    "OMP_NUM_THREADS": "1",
}


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(**small: str) -> str:
    """README's Python example; ``small`` replaces numbers and names, each of which it must hold."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for name, value in small.items():
        code, found = re.subn(rf"\b{name}=(\([^)]*\)|[\w.]+)", f"{name}={value}", code)
        assert found, f"the example does not set {name}"
    return code


def test_the_readme_s_example_writes_a_video_and_a_tuned_file(
    tmp_path: Path, diffusers_folder: Path, clip_file: Path
) -> None:
    (tmp_path / "skiing.mp4").write_bytes(clip_file.read_bytes())
    code = example(frames="3", size="(64, 64)", frame_stride="2", steps="2")
    code = code.replace('"stable-diffusion-v1-5"', repr(str(diffusers_folder)))
    told = run(code, tmp_path)
    assert "TuningStep(step=2" in told
    video = probe(tmp_path / "spider-man.mp4")
    assert (video.frames, video.width, video.height, float(video.fps)) == (3, 64, 64, 4.0)
    about = tav_core.TunedWeights.load(tmp_path / "skiing.safetensors").metadata
    assert (about.prompt, about.steps, about.frames, about.frame_stride) == ("a man is skiing", 2, 3, 2)
    # Tuned already: the second run learns nothing new.
    assert "TuningStep" not in run(code, tmp_path)


def test_importing_it_imports_nothing_heavy(tmp_path: Path) -> None:
    run("import sys, tav_core; assert not {'torch', 'diffusers', 'av'} & set(sys.modules)", tmp_path)


def test_every_public_name_is_there_and_explained() -> None:
    from tav_core import api

    assert set(api.__all__) <= set(dir(tav_core))
    for name in api.__all__:
        assert getattr(tav_core, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = tav_core.nothing
    assert not hasattr(tav_core, "__wrapped__")


def test_progress_is_told_and_a_run_can_be_stopped(
    tmp_path: Path, diffusers_folder: Path, clip_file: Path
) -> None:
    model, clip = tav_core.load_model(str(diffusers_folder)), tav_core.read_clip(str(clip_file), 2, (64, 64))
    settings = tav_core.TuningSettings(steps=5, gradient_checkpointing="none")
    tuned = tav_core.tune(model, clip, "a hill", settings=settings, on_step=lambda step: step.step == 2)
    assert tuned.metadata.steps == 2 and not list(tmp_path.iterdir())
    told: list[tuple[int, int]] = []
    inverted = tav_core.invert(
        model, clip, tuned, tav_core.Inversion(3), progress=lambda *now: told.append(now)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    inverted.save(tmp_path / "noise.safetensors")
    again = tav_core.InvertedLatents.load(str(tmp_path / "noise.safetensors"))
    told.clear()
    frames = tav_core.sample(
        model, again, None, "a dog", tav_core.Sampling(2), progress=lambda *now: told.append(now)
    )
    assert told == [(1, 2), (2, 2)] and frames.shape == clip.frames.shape
