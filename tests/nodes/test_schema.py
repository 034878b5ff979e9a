"""What ComfyUI's users see of the nodes, and what the code may not do."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from tav_core.diffusion.settings import Inversion, Sampling, Strengths
from tav_core.inflation.attach import InflationMode
from tav_core.settings import settings_of
from tav_core.tuning.settings import RunSettings, TuningSettings
from tav_core.video.settings import FrameSelection

ROOT = Path(__file__).parents[2]
NODES = sorted((ROOT / "nodes").glob("*.py"))
CORE = sorted((ROOT / "tav_core").rglob("*.py"))
HOST_ONLY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
HOST_ONLY |= {"latent_preview", "execution"}
OWNERS = (TuningSettings, RunSettings, InflationMode, Inversion, Sampling, Strengths, FrameSelection)
# What the declared packages are called in an import, where that differs.
IMPORT_NAMES = {"opencv-python": "cv2", "opencv-python-headless": "cv2", "pillow": "PIL"}


@pytest.fixture(scope="module")
def classes(pack) -> list:
    extension = asyncio.run(pack("nodes").comfy_entrypoint())
    asyncio.run(extension.on_load())
    return asyncio.run(extension.get_node_list())


@pytest.fixture(scope="module")
def schemas(classes: list) -> list:
    return [node.GET_SCHEMA() for node in classes]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import, in functions too; `from . import x` counts as x."""
    found = []
    for entry in ast.walk(parsed(path)):
        if isinstance(entry, ast.Import):
            found += [(0, alias.name) for alias in entry.names]
        elif isinstance(entry, ast.ImportFrom):
            names = [entry.module] if entry.module else [alias.name for alias in entry.names]
            found += [(entry.level, name) for name in names]
    return found


def test_every_node_class_is_in_the_entry_point(classes: list) -> None:
    written = {
        entry.name
        for path in NODES
        for entry in parsed(path).body
        if isinstance(entry, ast.ClassDef) and entry.name.startswith("TAV")
    }
    assert {node.__name__ for node in classes} == written
    assert len(classes) == len(written)


def test_names_of_nodes(schemas: list, classes: list) -> None:
    for node, schema in zip(classes, schemas, strict=True):
        assert schema.node_id.startswith("TAV") and schema.node_id == node.__name__
        assert re.fullmatch(r"Tune-A-Video(/\w+)?", schema.category), schema.node_id
        assert schema.display_name and "TAV" not in schema.display_name, schema.node_id
        assert len(schema.description) > 20 and schema.description.endswith("."), schema.node_id
        assert schema.search_aliases, schema.node_id
    assert len({schema.display_name for schema in schemas}) == len(schemas)


def test_every_input_and_output_says_what_it_is(schemas: list) -> None:
    for schema in schemas:
        for entry in [*schema.inputs, *schema.outputs]:
            name = f"{schema.node_id}.{entry.id or entry.display_name or entry.io_type}"
            assert entry.tooltip and len(entry.tooltip) > 8, name
            assert entry.tooltip.endswith((".", ")")), name


def test_numbers_have_a_sensible_range_and_choices_a_default(schemas: list) -> None:
    for schema in schemas:
        for entry in schema.inputs:
            name = f"{schema.node_id}.{entry.id}"
            kind = entry.get_io_type()
            if kind in ("INT", "FLOAT"):
                assert entry.min is not None and entry.max is not None, name
                assert entry.default is not None, name
                assert entry.min <= entry.default <= entry.max, name
            elif kind == "COMBO" and entry.default is not None:
                assert entry.default in entry.options, name


def test_defaults_of_inputs_are_written_once(classes: list) -> None:
    """In the schema; `Node` hands them to execute. Those of settings are in tav_core."""
    settings = {name for owner in OWNERS for name in settings_of(owner)}
    for path in NODES:
        for entry in ast.walk(parsed(path)):
            call = ast.unparse(entry.func) if isinstance(entry, ast.Call) else ""
            if re.fullmatch(r"io\.(Int|Float|Combo|Boolean)\.Input", call):
                name = ast.literal_eval(entry.args[0])
                # The inversion's guidance is another than the sampling's.
                known = (path.name, name) == ("ddim_inversion.py", "cfg")
                assert known or name not in settings, f"{path.name}: use input_for for {name}"
    for node in classes:
        assert inspect.getfullargspec(node.execute.__func__.__wrapped__).defaults is None, node.__name__


def test_inputs_that_are_left_out_have_the_schema_s_defaults_and_numbers_are_checked(pack) -> None:
    api = importlib.import_module("comfy_api.latest").io
    bounded = api.Float.Input("rate", default=0.5, min=0.0, max=1.0, optional=True)

    class TAVExample(pack("nodes.comfy.node").Node):
        @classmethod
        def define_schema(cls):
            inputs = [api.Latent.Input("latent"), bounded, api.Mask.Input("mask", optional=True)]
            return api.Schema(node_id="TAVExample", inputs=inputs)

        @classmethod
        def execute(cls, latent, rate, mask):
            return cls, latent, rate, mask

    clone = TAVExample.PREPARE_CLASS_CLONE(None)
    assert clone.execute(latent=1) == (clone, 1, 0.5, None)
    assert clone.execute(2, 1.0, mask=3) == (clone, 2, 1.0, 3)
    for wrong in (1.5, float("nan"), None, "1"):
        with pytest.raises(ValueError, match=f"'rate' must be a number from 0.0 to 1.0, not {wrong}"):
            clone.execute(latent=1, rate=wrong)


def test_the_server_lists_the_nodes_as_described(schemas: list, client) -> None:
    about = client.object_info()
    for schema in schemas:
        listed = about[schema.node_id]
        assert listed["display_name"] == schema.display_name
        assert listed["category"] == schema.category
        assert listed["python_module"].startswith("custom_nodes.")
    assert {name for name in about if name.startswith("TAV")} == {schema.node_id for schema in schemas}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_method_knows_no_host_and_only_declared_packages(path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    declared = {re.split(r"[\s\[<>=!~;]", name)[0] for name in re.findall(r'"([^"]+)"', section.group(1))}
    # numpy comes with torch's and OpenCV's own interfaces.
    allowed = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in declared} | {"numpy", "tav_core"}
    if path.parent.name == "cli":
        # Only needed where accelerate started the program.
        allowed |= {"accelerate"}
    for level, module in imports(path):
        top = module.split(".")[0]
        if level:
            assert level <= len(path.relative_to(ROOT).parents) - 1, f"{module} is outside of tav_core"
        else:
            assert top not in HOST_ONLY, f"imports {module}"
            assert top in allowed or top in sys.stdlib_module_names, (
                f"imports {module}, which is not declared"
            )


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.name)
def test_a_node_imports_no_other_node(path: Path) -> None:
    if path.name == "__init__.py":
        return
    others = {other.stem for other in NODES} - {"__init__"}
    for level, module in imports(path):
        if level == 1:
            assert module.split(".")[0] not in others, f"imports {module}"


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "nodes").rglob("*.py")), *CORE],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_prints_and_no_error_is_swallowed_whole(path: Path) -> None:
    for entry in ast.walk(parsed(path)):
        if isinstance(entry, ast.Call) and isinstance(entry.func, ast.Name):
            is_command = path.name == "__main__.py" or "cli" in path.stem
            assert entry.func.id != "print" or is_command, f"print in line {entry.lineno}"
        if isinstance(entry, ast.ExceptHandler):
            assert entry.type is not None, f"bare except in line {entry.lineno}"
