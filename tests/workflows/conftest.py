"""What the tests of the example workflows share: a server with everything that they ask for, and their runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for runs.py under pytest's importlib mode

from runs import Runs

from devkit.materials import put_examples
from devkit.server import Server


@pytest.fixture(scope="session")
def info(server: Server) -> dict:
    """The server's description of every node type; it takes seconds to make."""
    return server.start().client().object_info()


@pytest.fixture(scope="session")
def runs(server: Server, info: dict) -> Runs:
    """Runs of the example workflows at small settings; each is made once."""
    put_examples(server.base)
    runs = Runs(server, info)
    # A finished tuning is found again, under whatever name it was saved: the first one names the file.
    runs.of("quickstart")
    return runs
