"""What the tests of this folder share: graphs.py, workbench.py, and a workbench with the small checkpoint."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # under pytest's importlib mode

from workbench import Workbench


@pytest.fixture(scope="module")
def bench(pack, tiny_checkpoint: Path) -> Workbench:
    """A loaded checkpoint and ways to run nodes on it."""
    return Workbench(pack, tiny_checkpoint)
