"""A run from its inputs to its file: recognised, found again, resumed, saved as it goes."""

import logging
from pathlib import Path

import pytest
import torch

from tav_core import __version__
from tav_core.atomic import save_tensors
from tav_core.files.weights import TunedWeights
from tav_core.inflation.mode import InflationMode
from tav_core.settings import settings_of
from tav_core.tuning import run as runs
from tav_core.tuning.run import SingleFile, TuningRun, TuningSession, run_fingerprint
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

INPUTS = {"w": torch.arange(4.0)}, torch.zeros(3, 4, 2, 2), torch.ones(1, 2, 3)
SETTINGS = TuningSettings(steps=4, learning_rate=1e-3, gradient_checkpointing="none")


def of(**settings):
    return run_fingerprint(*INPUTS, TuningSettings(**settings), InflationMode())


def test_the_fingerprint_of_a_run_stays_what_it_was(monkeypatch):
    """Settings that came later must not orphan files and unfinished runs while they do nothing."""
    monkeypatch.setattr(runs, "__version__", "0")
    assert (
        run_fingerprint(*INPUTS, TuningSettings.official(), InflationMode())
        == "6074d793faa1b81345dae098a3489203"
    )


@pytest.mark.parametrize("name", settings_of(TuningSettings))
def test_what_shapes_the_result_is_another_run_and_what_only_costs_the_same(name):
    known = settings_of(TuningSettings)[name]
    other = next((choice for choice in known.choices if choice != known.default), known.maximum)
    assert (of(**{name: other}) == of()) == (name == "gradient_checkpointing")


@pytest.fixture
def run(clip, context) -> TuningRun:
    return TuningRun(clip, context, SETTINGS, prompt="a hill", frame_stride=2, base_fingerprint="0" * 16)


def work(host, run: TuningRun, path: Path | None, stop: int = 0) -> TunedWeights:
    with TuningSession(host, run, SingleFile(path) if path else None) as session:
        for step in session:
            if step.step == stop:
                break
    return session.weights()


def same(ours: TunedWeights, theirs: TunedWeights) -> bool:
    return ours.metadata == theirs.metadata and all(
        torch.equal(ours.tensors[name], tensor) for name, tensor in theirs.tensors.items()
    )


def stopped(host, run: TuningRun, path: Path) -> Path:
    """Stops the run after two steps; the path of its state."""
    assert work(host, run, path, stop=2).metadata.steps == 2
    (state,) = (path.parent / "unfinished").iterdir()
    return state


def test_a_run_tells_how_its_file_was_made_and_is_found_again(host, run, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    weights = work(host, run, tmp_path / "a.safetensors")
    about = weights.metadata
    assert (about.prompt, about.frame_stride, about.base_fingerprint) == ("a hill", 2, "0" * 16)
    assert (about.frames, about.width, about.height, about.steps) == (3, 64, 64, 4)
    assert (about.prediction_type, about.attention, about.norm) == ("epsilon", "first+previous", "joint")
    assert (about.learning_rate, about.trainable, about.seed) == (1e-3, "queries + temporal", 0)
    assert about.program_version == __version__ and about.loss_first > 0 and about.run
    assert same(TunedWeights.load(tmp_path / "a.safetensors"), weights)
    assert same(work(host, run, None), weights)
    monkeypatch.setattr(Tuner, "step", lambda tuner: pytest.fail("it began again"))
    assert same(work(host, run, tmp_path / "a.safetensors"), weights)
    assert "tuned already" in caplog.text


def test_a_stopped_run_goes_on_bit_for_bit(host, run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = stopped(host, run, tmp_path / "a.safetensors")
    assert same(work(host, run, tmp_path / "a.safetensors"), work(host, run, None))
    assert "going on from step 2" in caplog.text
    assert not state.exists()


def test_an_interrupted_run_keeps_what_it_learned(host, run, tmp_path, monkeypatch):
    step = Tuner.step

    def interrupted(tuner):
        if tuner.step_count == 3:
            raise KeyboardInterrupt
        return step(tuner)

    monkeypatch.setattr(Tuner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(host, run, tmp_path / "a.safetensors")
    assert TunedWeights.peek(tmp_path / "a.safetensors")[0].steps == 3


def cut(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1])


def foreign(state: Path) -> None:
    save_tensors(state, {"losses": torch.zeros(2)}, {"run": "f" * 32})


def emptied(state: Path) -> None:
    save_tensors(state, {"losses": torch.zeros(2)}, {"run": state.stem})


@pytest.mark.parametrize(
    "spoil, why", [(cut, "state"), (foreign, "another run"), (emptied, "it lacks parameter.")]
)
def test_a_state_that_cannot_be_used_is_said_and_the_run_starts_over(host, run, tmp_path, caplog, spoil, why):
    spoil(stopped(host, run, tmp_path / "a.safetensors"))
    assert same(work(host, run, tmp_path / "a.safetensors"), work(host, run, None))
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "starts over" in warning and why in warning


def test_the_file_of_another_run_is_not_replaced(host, run, tmp_path, clip, context):
    work(host, run, tmp_path / "a.safetensors")
    other = TuningRun(clip + 1, context, SETTINGS)
    with pytest.raises(FileExistsError, match="tuned with other inputs"):
        work(host, other, tmp_path / "a.safetensors")


def test_running_out_of_memory_becomes_advice():
    def work(error: Exception):
        raise error

    for error in (torch.OutOfMemoryError("CUDA"), RuntimeError("... can't allocate memory"), MemoryError()):
        with pytest.raises(MemoryError, match="smaller size") as caught:
            runs.advised(lambda error=error: work(error), lambda: "Take a smaller size.")
        assert caught.value.__context__ is None, "the first error would keep all tensors of the step"
    with pytest.raises(RuntimeError, match="mat1"):
        runs.advised(lambda: work(RuntimeError("mat1")), lambda: "")
    assert runs.advised(lambda: 1, lambda: "") == 1
