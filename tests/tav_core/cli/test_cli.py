"""``python -m tav_core``: every command on a tiny model, going on after a stop, and what it says when it cannot."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

import tav_core.cli.options
from tav_core.cli import jobs, options
from tav_core.cli.main import main, parser
from tav_core.diffusion.settings import Inversion, Sampling, Strengths
from tav_core.files.weights import TunedWeights
from tav_core.inflation.mode import InflationMode
from tav_core.pipeline import model
from tav_core.tuning.settings import RunSettings, TuningSettings
from tav_core.tuning.tuner import Tuner
from tav_core.video.read import probe, read_frames

PROMPT = "a square on a hill"
FAST = ["--gradient-checkpointing", "none"]


@pytest.fixture
def folder(diffusers_folder: Path) -> Path:
    return diffusers_folder


@pytest.fixture(scope="module")
def loaded():
    """Loads a model once for the whole module; the commands must leave it as it was."""
    return functools.cache(model.load_model)


@pytest.fixture(autouse=True)
def _one_model(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tav_core.cli.options, "load_model", loaded)
    for name in jobs._LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def common(folder: Path, clip_file: Path) -> list[str]:
    return ["--model", str(folder), "--video", str(clip_file), "--frames", "3", "--size", "64x64", "--quiet"]


def tune(common: list[str], out: Path, *more: str) -> int:
    return main(["tune", *common, "--prompt", PROMPT, "--out", str(out), "--steps", "3", *FAST, *more])


def test_tune_invert_sample_and_info(tmp_path: Path, common, folder, clip_file, loaded, capsys) -> None:
    before = {
        name: t.clone()
        for name, t in loaded(folder, None, None, "auto", "auto").host.unet.state_dict().items()
    }
    tuned, noise = tmp_path / "tuned.safetensors", tmp_path / "noise.safetensors"
    assert tune(common, tuned, "--learning-rate", "1e-3") == 0
    assert main(["invert", *common, "--tuned", str(tuned), "--steps", "2", "--out", str(noise)]) == 0
    sample = ["sample", "--model", str(folder), "--tuned", str(tuned), "--noise", str(noise), "--quiet"]
    sample += ["--prompt", "a dog on a hill", "--sampling-steps", "2"]
    assert main([*sample, "--out", str(tmp_path / "a.mp4")]) == 0
    assert main([*sample, "--out", str(tmp_path / "frames"), "--cfg", "1"]) == 0
    video = probe(tmp_path / "a.mp4")
    assert (video.frames, video.width, video.height, float(video.fps)) == (3, 64, 64, 8.0)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"{i:05}.png" for i in range(3)]
    after = loaded(folder, None, None, "auto", "auto").host.unet.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    capsys.readouterr()
    assert main(["info", str(tuned), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["prompt"], about["steps"], about["frames"], len(about["losses"])) == (PROMPT, 3, 3, 3)
    assert main(["info", str(tuned)]) == 0
    assert PROMPT in capsys.readouterr().out


def test_the_vae_brings_the_clip_back_and_latents_are_the_networks(folder, clip_file, loaded) -> None:
    frames, _ = read_frames(clip_file, count=5, size=(64, 64))
    tiny = loaded(folder, None, None, "auto", "auto")
    latents = tiny.encode(frames)
    assert latents.shape == (5, 4, 8, 8)
    assert tiny.decode(latents).shape == frames.shape
    assert tiny.embed("a rabbit").shape == (1, 77, 96)
    assert not torch.equal(tiny.embed("a rabbit"), tiny.embed(""))


def test_a_stopped_run_exits_130_and_goes_on_bit_for_bit(
    tmp_path: Path, common, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    assert tune(common, whole) == 0
    step = Tuner.step

    def terminated(self: Tuner):
        if self.step_count == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Tuner, "step", terminated)
        assert tune(common, stopped) == 130
    assert TunedWeights.load(stopped).metadata.steps == 2
    assert len(list((tmp_path / "unfinished").iterdir())) == 1
    capsys.readouterr()
    assert tune(common, stopped) == 0
    assert "going on from step 2" in capsys.readouterr().out
    ours, theirs = load_file(stopped), load_file(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list((tmp_path / "unfinished").iterdir())
    # Finished: found, not repeated. Other inputs: not overwritten.
    assert tune(common, stopped) == 0
    assert "tuned already" in capsys.readouterr().out
    assert tune(common, stopped, "--tuning-seed", "1") == 1
    assert "tuned with other inputs" in capsys.readouterr().err


def test_convert_there_and_back_and_to_a_lora(tmp_path: Path, common, folder, capsys) -> None:
    tuned, back = tmp_path / "tuned.safetensors", tmp_path / "back.safetensors"
    assert tune(common, tuned, "--query-rank", "2") == 0
    official = tmp_path / "official"
    model_options = ["--model", str(folder)]
    assert main(["convert", str(tuned), "--to", "official", *model_options, "--out", str(official)]) == 0
    assert (official / "model_index.json").is_file() and (official / "vae").is_dir()
    assert main(["convert", str(official), "--to", "tuned", *model_options, "--out", str(back)]) == 0
    ours, theirs = TunedWeights.load(back), TunedWeights.load(tuned)
    assert ours.metadata == theirs.metadata and ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert main(["convert", str(tuned), "--to", "lora", "--out", str(tmp_path / "lora.safetensors")]) == 0
    assert any(name.startswith("lora_unet_") for name in load_file(tmp_path / "lora.safetensors"))
    assert main(["convert", str(tuned), "--to", "lora", "--out", str(back)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["convert", str(official), "--to", "tuned", "--out", str(tmp_path / "x")]) == 2


def test_a_list_of_clips_is_checked_shared_and_resumed(
    tmp_path: Path, folder, clip_file, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    listed = tmp_path / "jobs.jsonl"
    lines = [
        {
            "video": str(clip_file),
            "prompt": PROMPT,
            "edit": ["a dog", "-- a cat"],
            "out": str(tmp_path / name),
        }
        for name in ("one", "two", "three")
    ]
    lines[1]["video"] = str(tmp_path / "missing.mp4")
    lines[2] |= {"frames": 2, "format": "png", "no_resume": True}
    listed.write_text("\n\n".join(map(json.dumps, lines)))
    small = [
        *FAST,
        "--size",
        "64x64",
        "--frames",
        "3",
        "--tuning-steps",
        "1",
        "--sampling-steps",
        "1",
        "--quiet",
    ]
    command = ["edit", "--model", str(folder), "--jobs", str(listed), *small]
    # The second of two processes takes every other clip, which is the one that fails.
    state = SimpleNamespace(
        process_index=1,
        num_processes=2,
        device="cpu",
        destroy_process_group=lambda: None,
        wait_for_everyone=lambda: None,
    )
    with monkeypatch.context() as patched:
        patched.setenv("LOCAL_RANK", "1")
        patched.setitem(sys.modules, "accelerate", SimpleNamespace(PartialState=lambda cpu, timeout: state))
        assert main(command) == 1
    written = capsys.readouterr()
    assert "1 of 3 clips to do in process 2 of 2" in written.out
    assert "missing.mp4" in written.err and "1 of 1 clips failed" in written.err
    assert not (tmp_path / "one").exists()
    assert main(command) == 1
    assert "1 of 3 clips failed" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "1-a-dog.mp4",
        "2-a-cat.mp4",
        "comparison.mp4",
        "done.json",
        "tuned.safetensors",
    ]
    assert len(list((tmp_path / "three" / "1-a-dog").iterdir())) == 2
    # Source and edits side by side.
    assert probe(tmp_path / "one" / "comparison.mp4").width > 3 * 64
    lines[1]["video"] = str(clip_file)
    listed.write_text("\n".join(map(json.dumps, lines)))
    assert main(command) == 0
    assert "1 of 3 clips to do" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 of 3 clips to do" in capsys.readouterr().out


def test_accelerate_launch_shares_the_clips_among_real_processes(tmp_path: Path, folder, clip_file) -> None:
    pytest.importorskip("accelerate", reason="accelerate, which starts several processes, is not installed")
    listed, root = tmp_path / "jobs.jsonl", Path(__file__).parents[3]
    lines = [
        {"video": str(clip_file), "prompt": PROMPT, "edit": "a dog", "out": str(tmp_path / name)}
        for name in ("one", "two", "three")
    ]
    # The second process fails at once, long before the first is done with its two clips.
    lines[1]["video"] = str(tmp_path / "missing.mp4")
    # As on a machine with two GPUs; its own --cpu would start several processes by MPI only.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", "-m", "tav_core", "edit", "--device", "cpu", "--quiet", *FAST]
    command += ["--model", str(folder), "--jobs", str(listed), "--size", "64x64", "--frames", "2"]
    command += ["--tuning-steps", "1", "--sampling-steps", "1"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root / "devkit" / "shims"), str(root)]),
        "OMP_NUM_THREADS": "1",
    }

    def launch() -> subprocess.CompletedProcess:
        listed.write_text("\n".join(map(json.dumps, lines)))
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
        )

    result = launch()
    assert result.returncode == 1, result.stderr
    assert "2 of 3 clips to do in process 1 of 2" in result.stdout
    assert "1 of 3 clips to do in process 2 of 2" in result.stdout
    assert "missing.mp4" in result.stderr and "1 of 1 clips failed" in result.stderr
    assert [(tmp_path / name / "done.json").exists() for name in ("one", "two", "three")] == [
        True,
        False,
        True,
    ]
    before = (tmp_path / "three" / "tuned.safetensors").stat().st_mtime_ns
    lines[1]["video"] = str(clip_file)
    result = launch()
    assert result.returncode == 0, result.stderr
    # What is left is shared anew.
    assert "1 of 3 clips to do in process 1 of 2" in result.stdout
    assert "0 of 3 clips to do in process 2 of 2" in result.stdout
    assert (tmp_path / "two" / "1-a-dog.mp4").is_file()
    assert (tmp_path / "three" / "tuned.safetensors").stat().st_mtime_ns == before


def test_wrong_lists_name_the_line(tmp_path: Path, folder, capsys) -> None:
    good = {"video": "a.mp4", "prompt": "x", "edit": "y", "out": "z"}
    cases = {
        "not json": "Expecting value",
        "[]": "not a JSON object",
        json.dumps(good | {"frames": 1}): "argument --frames",
        json.dumps(good | {"colour": 1}): "--colour",
        json.dumps(good | {"dtype": "fp16"}): "holds for all clips",
        json.dumps({"video": "a.mp4"}): "--edit, --out, --prompt",
        f"{json.dumps(good)}\n{json.dumps(good)}": "several lines write to",
    }
    for text, message in cases.items():
        (tmp_path / "jobs.jsonl").write_text(text)
        assert main(["edit", "--model", str(folder), "--jobs", str(tmp_path / "jobs.jsonl")]) == 1
        error = capsys.readouterr().err
        assert message in error and "jobs.jsonl" in error and error.count("\n") == 1, error
    assert main(["edit", "--model", str(folder), "--jobs", str(tmp_path / "none.jsonl")]) == 1


def test_a_launcher_without_accelerate_is_one_sentence(
    tmp_path: Path, folder, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "jobs.jsonl").write_text("")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(["edit", "--model", str(folder), "--jobs", str(tmp_path / "jobs.jsonl")]) == 1
    assert "the package accelerate is missing" in capsys.readouterr().err


def test_options_have_the_settings_own_defaults() -> None:
    given = parser().parse_args(["edit", "--model", "x"])
    assert options.tuning_of(given) == (TuningSettings(), InflationMode(), RunSettings())
    assert options.inversion_of(given, Inversion().steps) == Inversion()
    assert (options.sampling_of(given), options.strengths_of(given)) == (Sampling(), Strengths())
    given = parser().parse_args(
        ["edit", "--model", "x", "--no-resume", "--temporal-strength", "-0.5", "--seed", "3"]
    )
    assert not options.tuning_of(given)[2].resume
    assert (options.sampling_of(given).seed, options.tuning_of(given)[0].seed) == (3, 0)
    assert options.strengths_of(given).temporal_strength == -0.5


@pytest.mark.parametrize("command", ["tune", "invert", "sample", "edit", "info", "convert"])
def test_help_has_examples(command: str, capsys) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and f"tav_core {command}" in shown
    assert main(["--help"]) == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["tune"],
        ["edit", "--model", "x", "--video", "y"],
        ["info"],
        ["edit", "--model", "x", "--frames", "1"],
        ["edit", "--model", "x", "--size", "60x64"],
        ["edit", "--model", "x", "--learning-rate", "nan"],
        ["invert", "--model", "x", "--video", "y", "--out", "z", "--steps", "1001"],
        ["convert", "a.safetensors", "--to", "official", "--out", "no-such-folder"],
    ],
)
def test_a_wrong_command_line_exits_2(arguments: list[str], capsys) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--help" in error


def test_what_cannot_be_done_exits_1_with_one_sentence(
    tmp_path: Path, common, folder, clip_file, tiny_checkpoint, capsys
) -> None:
    out = ["--prompt", "x", "--out", str(tmp_path / "out.safetensors")]
    clip = common[2:]
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" * 64)
    cases = {
        "there is no such model": ["tune", "--model", str(tmp_path / "no"), *clip, *out],
        "is not a diffusers folder": ["tune", "--model", str(tmp_path / "empty"), *clip, *out],
        "--config FOLDER": ["tune", "--model", str(tiny_checkpoint), *clip, *out],
        "does not exist": ["tune", *common, "--video", "no.mp4", *out],
        "at most": ["tune", *common, "--frames", "99", *out],
        "there is no such file": ["info", str(tmp_path / "no")],
        "damaged": ["info", str(tmp_path / "broken.safetensors")],
        "make it again": ["sample", "--model", str(folder), "--noise", str(tmp_path / "no"), *out],
    }
    for message, arguments in cases.items():
        assert main(arguments) == 1, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_a_single_file_is_the_same_model_with_a_folder_for_its_configuration(
    folder, tiny_checkpoint, loaded
) -> None:
    from_file = model.load_model(tiny_checkpoint, config=folder, vae=folder / "vae")
    from_folder = loaded(folder, None, None, "auto", "auto")
    assert from_file.fingerprint() == from_folder.fingerprint()
    assert torch.allclose(from_file.embed("a rabbit"), from_folder.embed("a rabbit"), atol=1e-5)
    assert torch.equal(from_file.host.schedule.alphas_cumprod, from_folder.host.schedule.alphas_cumprod)
    assert isinstance(from_file.vae, AutoencoderTiny)


def test_another_base_is_a_warning(tmp_path: Path, common, capsys, caplog: pytest.LogCaptureFixture) -> None:
    tuned = tmp_path / "tuned.safetensors"
    assert tune(common, tuned) == 0
    weights = TunedWeights.load(tuned)
    object.__setattr__(weights.metadata, "base_fingerprint", "0" * 16)
    weights.save(tuned)
    capsys.readouterr()
    with caplog.at_level(logging.WARNING):
        invert = ["invert", *common, "--tuned", str(tuned), "--steps", "1", "--out", str(tmp_path / "n")]
        assert main(invert) == 0
    assert "another base model" in capsys.readouterr().err
