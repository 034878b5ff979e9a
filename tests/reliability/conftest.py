"""What the tests of this folder share: the workbench of tests/nodes, under pytest's importlib mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from workbench import Workbench


@pytest.fixture(scope="module")
def bench(pack, tiny_checkpoint) -> Workbench:
    """A loaded checkpoint for each module."""
    return Workbench(pack, tiny_checkpoint)


@pytest.fixture
def folder(bench: Workbench) -> Path:
    """Where tuned files are written."""
    return Path(bench.folders.get_folder_paths("tune_a_video")[0])
