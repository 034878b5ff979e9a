"""What the tests of the example workflows share: a server with everything that they ask for, and their runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for runs.py under pytest's importlib mode

from runs import Runs

from devkit.materials import put_examples
from devkit.server import EXACT, Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Server]:
    """A server of their own: the names of the files that workflows save count from 1 in an empty folder."""
    base = tmp_path_factory.mktemp("workflows")
    with Server(base=base, checkpoints=[tiny_checkpoint], arguments=EXACT) as running:
        put_examples(base)
        yield running


@pytest.fixture(scope="session")
def info(server: Server) -> dict:
    """The server's description of every node type; it takes seconds to make."""
    return server.start().client().object_info()


@pytest.fixture(scope="session")
def runs(server: Server, info: dict) -> Runs:
    """Runs of the example workflows at small settings; each is made once."""
    runs = Runs(server, info)
    # A finished tuning is found again, under whatever name it was saved: the first one names the file.
    runs.of("quickstart")
    return runs
