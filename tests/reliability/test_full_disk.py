"""A disk that is full or refuses: told before the first step, or a warning with the result still in memory."""

from __future__ import annotations

import logging
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from workbench import Workbench, assert_plain

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_told_before_the_first_step(bench: Workbench, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    monkeypatch.setattr(
        bench.pack("tav_core.tuning.tuner").Tuner, "step", lambda tuner: pytest.fail("it began")
    )
    with pytest.raises(OSError) as caught:
        bench.tune(seed=911, filename_prefix="full/a")
    assert_plain(str(caught.value), "MB left", "make room")
    assert not list(folder.glob("full/a*"))


def test_a_disk_that_refuses_later_is_a_warning_and_the_result_is_there(
    bench: Workbench, folder: Path, monkeypatch, caplog
) -> None:
    run = {"steps": 3, "seed": 912}
    expected = bench.tune(**run, filename_prefix="full/sound")[1]

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.pack("tav_core.atomic"), "save_file", refuse)
    _, weights, loss = bench.tune(**run, filename_prefix="full/b", save_every=1)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("No space left" in text and "kept in memory" in text for text in warnings)
    assert len(loss["loss"]) == 3
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in expected.tensors.items())
    assert not list(folder.glob("full/b*")) and not list(folder.glob("full/.tav-*"))
