"""Lets the tests of this folder use the workbench of tests/nodes under pytest's importlib mode."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))
