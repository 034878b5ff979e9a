"""What tells one tuning run from another."""

import pytest
import torch

from tav_core.inflation.attach import InflationMode
from tav_core.tuning import run as unfinished
from tav_core.tuning.settings import TuningSettings

INPUTS = {"w": torch.arange(4.0)}, torch.zeros(3, 4, 2, 2), torch.ones(1, 2, 3)


def run(**settings):
    return unfinished.run_fingerprint(*INPUTS, TuningSettings(**settings), InflationMode())


def test_the_fingerprint_of_a_run_stays_what_it_was(monkeypatch):
    """Settings that came later must not orphan files and unfinished runs while they do nothing."""
    monkeypatch.setattr(unfinished, "__version__", "0")
    assert (
        unfinished.run_fingerprint(*INPUTS, TuningSettings.official(), InflationMode())
        == "6074d793faa1b81345dae098a3489203"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 7},
        {"seed": 1},
        {"frames_per_step": 2},
        {"frames_per_step": 3},
        {"timesteps": "random"},
        {"temporal_lr_scale": 1.0},
        {"temporal_lr_scale": 2.0},
    ],
)
def test_what_shapes_the_result_is_another_run(changed):
    assert run(**changed) != run()


def test_what_only_costs_is_the_same_run():
    assert run(gradient_checkpointing="none") == run()


def test_only_a_sound_state_of_the_same_run_is_taken_up(tmp_path):
    path, state = tmp_path / "a.state", {"w": torch.arange(4.0)}
    unfinished.save_unfinished(path, state, "a")
    assert unfinished.load_unfinished(path, "a").keys() == state.keys()
    assert unfinished.load_unfinished(path, "b") is None, "a file that was renamed, say"
    assert unfinished.load_unfinished(tmp_path / "none.state", "a") is None
    path.write_bytes(path.read_bytes()[:-1])
    assert unfinished.load_unfinished(path, "a") is None
