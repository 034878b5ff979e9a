"""What the browser tests share: a browser, and a server with everything that the example workflows ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from devkit.browser import NoBrowserError
from devkit.materials import put_examples
from devkit.page import ComfyPage, browser_context
from devkit.paths import OUTPUT
from devkit.server import Server

PICTURES = OUTPUT / "browser"


@pytest.fixture(scope="module")
def context() -> Iterator[object]:
    """A browser for one module: while it runs, its event loop keeps others out of this thread."""
    opened = browser_context()
    try:
        context = opened.__enter__()
    except NoBrowserError as error:
        pytest.skip(str(error))
    yield context
    opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Server]:
    """A server of their own with the clips, LoRA, ControlNet and checkpoints of the example workflows."""
    base = tmp_path_factory.mktemp("studio")
    with Server(base=base, checkpoints=[tiny_checkpoint]) as running:
        put_examples(base)
        # The first start ever shows the templates over the graph, at a moment of its own choice.
        told = Request(f"{running.url}/settings/Comfy.TutorialCompleted", b"true", method="POST")  # noqa: S310
        with urlopen(told, timeout=60):  # noqa: S310
            pass
        yield running


@pytest.fixture(scope="module")
def window(context: object, studio: Server) -> ComfyPage:
    """One window that the tests of a module share; loading a page is what takes long."""
    return ComfyPage(context, studio.url)


@pytest.fixture(autouse=True)
def no_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing may go wrong in the page, whatever a test looks at."""
    yield
    if "window" in request.fixturenames:
        window = request.getfixturevalue("window")
        errors, window.errors = window.errors, []
        assert errors == []


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept, to be looked at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES
