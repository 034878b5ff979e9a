"""`dev.py fuzz` counts what it tried."""

from __future__ import annotations

import importlib.util

import pytest

from devkit import fuzz
from devkit.say import DevError


def test_the_number_of_executions_is_read_from_the_fuzzer() -> None:
    output = (
        "#4 INITED\nDone 12345 in 3 second(s)\nstat::number_of_executed_units: 12345\nstat::new_units: 3\n"
    )
    assert fuzz.executions(output) == 12345
    assert fuzz.executions("nothing") == 0


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(DevError, match="no target x; choose of tuned_weights"):
        fuzz.main(["x"])


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris (dev.py fuzz installs it)"
)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_short_run_finds_nothing(target: str) -> None:
    assert fuzz.run(target, 2) > 100
