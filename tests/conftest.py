"""What the tests share: a real server, ComfyUI in this process, a checkpoint, a clip."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "devkit" / "shims"))

import cpu_torch  # noqa: E402  (its folder was put on the path one line above)

cpu_torch.install()

from devkit import base as base_folder  # noqa: E402  (after the import hook, which has to come first)
from devkit import comfyui as comfyui_source  # noqa: E402
from devkit.client import Client  # noqa: E402
from devkit.materials import tiny_checkpoint as make_tiny_checkpoint  # noqa: E402
from devkit.server import Server  # noqa: E402
from devkit.video import moving_square, write_video  # noqa: E402

PACK = "tune_a_video_pack"


class Pack:
    """The pack, loaded as ComfyUI loads it: a package under a name of its own, with relative imports.

    pack("nodes.tune") is the module nodes/tune.py; classes are the same objects for every test.
    """

    def __init__(self, root: Path) -> None:
        spec = importlib.util.spec_from_file_location(PACK, root / "__init__.py")
        assert spec is not None and spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = self.module
        spec.loader.exec_module(self.module)

    def __call__(self, name: str) -> ModuleType:
        return importlib.import_module(f"{PACK}.{name}")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny SD checkpoint: the trained one in the checkout, else a seeded random one."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small H.264 clip: 8 frames of 64x64 at 8 frames per second."""
    return write_video(tmp_path_factory.mktemp("clip") / "square.mp4", moving_square())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, clip_file: Path):
    """One real ComfyUI server for the whole session, in a folder of its own; its input holds `clip_file`."""
    base = tmp_path_factory.mktemp("server")
    with Server(base=base, checkpoints=[tiny_checkpoint]) as running:
        running.client().upload(clip_file)
        yield running


@pytest.fixture
def client(server: Server) -> Client:
    """A client of the session's server; starts the server again when an earlier test ended it."""
    server.start()
    return server.client()


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """ComfyUI importable in this process (`import comfy.sd`, ...), on the CPU; returns its folder.

    Its settings are made before its modules are imported, because they read them at import.
    """
    folder = comfyui_source.locate()
    base = base_folder.prepare(tmp_path_factory.mktemp("in-process"), [tiny_checkpoint])
    # In front of the checkout, whose folder nodes/ has the name of ComfyUI's module nodes.py.
    sys.path.insert(0, str(folder))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    arguments = importlib.import_module("comfy.cli_args").args
    arguments.cpu = True
    arguments.base_directory = str(base)
    importlib.import_module("nodes")
    tiny_node = base / "custom_nodes" / base_folder.TINY_NODE_NAME / "__init__.py"
    if tiny_node.is_file():
        spec = importlib.util.spec_from_file_location("tune_a_video_tiny_world", tiny_node)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return folder


@pytest.fixture(scope="session")
def pack(comfyui: Path) -> Pack:
    """The pack inside the ComfyUI of this process: pack("nodes.tune") is a module of it."""
    return Pack(ROOT)
