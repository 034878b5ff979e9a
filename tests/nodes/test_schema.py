"""What ComfyUI's users see of the nodes."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tav_core.diffusion.settings import Inversion, Sampling, Strengths
from tav_core.inflation.mode import InflationMode
from tav_core.settings import settings_of
from tav_core.tuning.settings import RunSettings, TuningSettings
from tav_core.video.settings import FrameSelection

ROOT = Path(__file__).parents[2]
NODES = sorted((ROOT / "nodes").glob("*.py"))
OWNERS = (TuningSettings, RunSettings, InflationMode, Inversion, Sampling, Strengths, FrameSelection)


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
