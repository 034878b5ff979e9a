"""Who may import whom. That nodes import no nodes, and tav_core no host, is in tests/nodes/test_schema.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tree import ROOT, files, imports, name

NODES = [path for path in files(".py", under="nodes") if path.parent.name == "nodes"]
HOST = files(".py", under="nodes/comfy")
CORE = files(".py", under="tav_core")
# ComfyUI's interface for node packs, and where its folders are. Everything else is its inside.
PUBLIC = {"comfy_api", "folder_paths"}
INSIDE = {"comfy", "comfy_extras", "comfy_execution", "execution", "latent_preview", "nodes", "server", "app"}

each = pytest.mark.parametrize


@each("path", NODES, ids=name)
def test_nodes_use_comfyui_s_inside_through_nodes_host_only(path: Path) -> None:
    used = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert used & INSIDE == set(), "put it into nodes/comfy"


@each("path", HOST, ids=name)
def test_nodes_host_knows_no_node(path: Path) -> None:
    nodes = {node.stem for node in NODES}
    for level, module in imports(path):
        if level == 2:
            assert module.split(".")[0] not in nodes, f"imports {module}"


@each("path", [*NODES, *HOST, *CORE, ROOT / "__init__.py"], ids=name)
def test_the_pack_imports_nothing_that_is_not_published(path: Path) -> None:
    for _, module in imports(path):
        assert module.split(".")[0] not in ("devkit", "tests", "benchmarks"), f"imports {module}"


@each("path", [*NODES, *HOST, *CORE], ids=name)
def test_no_module_is_imported_by_a_name_made_up_at_run_time(path: Path) -> None:
    called = {module for level, module in imports(path) if level == 0 and module == "?"}
    assert not called, "write the module's name out"


LIBRARY = [path for path in CORE if path.parent.name != "cli" and path.name != "__main__.py"]


@each("path", LIBRARY, ids=name)
def test_the_library_leaves_the_terminal_to_the_command_line(path: Path) -> None:
    for _, module in imports(path):
        assert not {"argparse", "tqdm", "cli"} & set(module.split(".")), f"imports {module}"


def test_all_of_tav_core_imports_without_comfyui() -> None:
    """In a Python that refuses every module of ComfyUI, with none loaded before."""
    modules = [name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in CORE]
    refused = sorted(PUBLIC | INSIDE)
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({refused!r}))\n"  # None makes an import fail
        f"for module in {[m for m in modules if not m.endswith('__main__')]!r}:\n"
        "    importlib.import_module(module)\n"
    )
    environment = dict(os.environ) | {
        "PYTHONPATH": os.pathsep.join((str(ROOT / "devkit" / "shims"), str(ROOT)))
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
