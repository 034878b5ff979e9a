"""ComfyUI and the pack in this process, for work that needs no server."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from . import base as base_folder
from . import second_device
from .device import has_gpu
from .paths import ROOT, SHIMS

PACK = "tune_a_video_pack"


def start(comfyui: Path, base: Path, checkpoints: Sequence[Path] = (), exact: bool = False) -> None:
    """Make the modules of the ComfyUI in the folder `comfyui` importable, working in the folder `base`.

    Its settings are made before its modules are imported, because they read them at import. Without a GPU it
    runs on the CPU, or on the second device where that is wanted. With `exact`, models that are loaded compute in
    full float32 everywhere, as they do on a CPU, so that results can be compared as closely.
    """
    base_folder.prepare(base, list(checkpoints))
    sys.path.insert(0, str(SHIMS))
    importlib.import_module("cpu_torch").install()
    # In front of the checkout, whose folder nodes/ has the name of ComfyUI's module nodes.py.
    sys.path.insert(0, str(comfyui))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    arguments = importlib.import_module("comfy.cli_args").args
    arguments.base_directory = str(base)
    if exact:
        arguments.force_fp32 = True
        # Convolutions on a GPU round to ten bits otherwise.
        importlib.import_module("torch").backends.cudnn.allow_tf32 = False
    if second_device.wanted():
        _take_second_device(arguments)
    else:
        arguments.cpu = not has_gpu()
    importlib.import_module("nodes")
    _load_package("tune_a_video_tiny_world", base / "custom_nodes" / base_folder.TINY_NODE_NAME)


def pack(name: str) -> ModuleType:
    """A module of the pack, `nodes.tune` say, loaded as ComfyUI loads it: under a name of its own."""
    if PACK not in sys.modules:
        _load_package(PACK, ROOT)
    return importlib.import_module(f"{PACK}.{name}")


def _take_second_device(arguments: argparse.Namespace) -> None:
    """What ComfyUI's main.py makes of `second_device.arguments`."""
    sys.path.insert(0, str(second_device.FOLDER))
    arguments.directml = 0
    arguments.disable_pinned_memory = True
    patching = importlib.import_module("comfy.model_patcher")
    patching.CoreModelPatcher = patching.ModelPatcherDynamic
    importlib.import_module("comfy.memory_management").aimdo_enabled = True


def _load_package(name: str, folder: Path) -> None:
    initial = folder / "__init__.py"
    if not initial.is_file():
        return
    spec = importlib.util.spec_from_file_location(name, initial)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
