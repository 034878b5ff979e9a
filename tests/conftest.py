"""What the tests share: a real server, ComfyUI in this process, a checkpoint, a clip."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "devkit" / "shims"))

import cpu_torch  # noqa: E402  (its folder was put on the path one line above)

cpu_torch.install()

from devkit import comfyui as comfyui_source  # noqa: E402  (after the import hook, which comes first)
from devkit import inprocess, second_device  # noqa: E402
from devkit.client import Client  # noqa: E402
from devkit.materials import tiny_checkpoint as make_tiny_checkpoint  # noqa: E402
from devkit.server import EXACT, Server  # noqa: E402
from devkit.video import moving_square, write_video  # noqa: E402
from devkit.world.checkpoint import to_diffusers  # noqa: E402


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out, by `not_on_second_device(reason)`, tests that make use of ComfyUI in ways that only a CPU allows."""
    mark = item.get_closest_marker("not_on_second_device")
    if mark is not None and second_device.wanted():
        pytest.skip(mark.args[0])


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny SD checkpoint: the trained one in the checkout, else a seeded random one."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def diffusers_folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """`tiny_checkpoint` as a folder of diffusers'. Not to be changed."""
    folder = tmp_path_factory.mktemp("diffusers") / "tiny"
    to_diffusers(tiny_checkpoint, folder, comfyui_source.locate() / "comfy" / "sd1_tokenizer")
    return folder


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small H.264 clip: 8 frames of 64x64 at 8 frames per second."""
    return write_video(tmp_path_factory.mktemp("clip") / "square.mp4", moving_square())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, clip_file: Path):
    """One real ComfyUI server for the whole session, in a folder of its own; its input holds `clip_file`."""
    base = tmp_path_factory.mktemp("server")
    with Server(base=base, checkpoints=[tiny_checkpoint], arguments=EXACT) as running:
        running.client().upload(clip_file)
        yield running


@pytest.fixture
def client(server: Server) -> Client:
    """A client of the session's server; starts the server again when an earlier test ended it."""
    server.start()
    return server.client()


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """ComfyUI importable in this process (`import comfy.sd`, ...); returns its folder."""
    folder = comfyui_source.locate()
    inprocess.start(folder, tmp_path_factory.mktemp("in-process"), [tiny_checkpoint], exact=True)
    return folder


@pytest.fixture(scope="session")
def pack(comfyui: Path) -> Callable[[str], ModuleType]:
    """The pack inside the ComfyUI of this process: pack("nodes.tune") is the module nodes/tune.py.

    It is loaded as ComfyUI loads it, under a name of its own; classes are the same objects for every test.
    """
    return inprocess.pack
