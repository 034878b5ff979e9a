"""Who may import whom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tree import ROOT, files, imports, name

NODES = [path for path in files(".py", under="nodes") if path.parent.name == "nodes"]
COMFY = files(".py", under="nodes/comfy")
CORE = files(".py", under="tav_core")
# ComfyUI's interface for node packs, and where its folders are. Everything else is its inside.
PUBLIC = {"comfy_api", "folder_paths"}
INSIDE = {"comfy", "comfy_extras", "comfy_execution", "execution", "latent_preview", "nodes", "server", "app"}

# tav_core's folders and files, from the lowest layer to the highest; one imports only from layers below its own.
LAYERS = (
    {"__version__", "atomic", "patching", "prompts", "settings"},
    {"diffusion", "metrics", "video"},
    {"inflation"},
    {"files"},
    {"tuning"},
    {"pipeline"},
    {"api"},
    {"cli", "__init__"},
    {"__main__"},
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
# What the declared packages are called in an import, where that differs.
IMPORT_NAMES = {"opencv-python": "cv2", "pillow": "PIL"}

each = pytest.mark.parametrize


@each("path", CORE, ids=name)
def test_the_layers_of_tav_core_import_downwards(path: Path) -> None:
    here = path.relative_to(ROOT / "tav_core").with_suffix("").parts
    for level, module in imports(path):
        assert level <= len(here), f"{module} is outside of tav_core"
        if level == len(here):  # of another folder, or of tav_core itself
            there = module.split(".")[0]
            assert HEIGHT[there] < HEIGHT[here[0]], f"imports {module}, which is not below {here[0]}"


@each("path", CORE, ids=name)
def test_tav_core_knows_no_comfyui_and_only_declared_packages(path: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {IMPORT_NAMES.get(package, package) for package in project["dependencies"]}
    if path.parent.name == "cli":  # only needed where accelerate started the program
        allowed |= {line.partition(">")[0] for line in project["optional-dependencies"]["jobs"]}
    used = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert used - allowed - sys.stdlib_module_names == set(), "is not declared in pyproject.toml"


@each("path", [path for path in NODES if path.name != "__init__.py"], ids=name)
def test_a_node_imports_no_other_node(path: Path) -> None:
    nodes = {node.stem for node in NODES}
    assert {module.split(".")[0] for level, module in imports(path) if level == 1} & nodes == set()


@each("path", NODES, ids=name)
def test_nodes_use_comfyui_s_inside_through_nodes_comfy_only(path: Path) -> None:
    used = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert used & INSIDE == set(), "put it into nodes/comfy"


@each("path", COMFY, ids=name)
def test_nodes_comfy_knows_no_node(path: Path) -> None:
    to_nodes = len(path.relative_to(ROOT / "nodes").parts)
    used = {module.split(".")[0] for level, module in imports(path) if level == to_nodes}
    assert used & {node.stem for node in NODES} == set()


@each("path", [*NODES, *COMFY, *CORE], ids=name)
def test_below_the_top_a_package_s_init_is_empty(path: Path) -> None:
    """A folder's modules are imported by their own names: nothing is loaded that was not asked for."""
    if path.name == "__init__.py" and path.parent.parent != ROOT:
        assert path.read_bytes() == b""


@each("path", [*NODES, *COMFY, *CORE, ROOT / "__init__.py"], ids=name)
def test_the_pack_imports_nothing_that_is_not_published(path: Path) -> None:
    for _, module in imports(path):
        assert module.split(".")[0] not in ("devkit", "tests", "benchmarks"), f"imports {module}"


@each("path", [*NODES, *COMFY, *CORE], ids=name)
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
