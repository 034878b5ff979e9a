"""The workflow files: in step with their builder, laid out well, and complete as a set."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from PIL import Image

from devkit.gallery.graph import Graph
from devkit.gallery.kinds import KINDS
from devkit.gallery.workflows import BEFORE, build_all
from devkit.paths import ROOT, WORKFLOWS
from devkit.workflow import to_api

FILES = sorted(WORKFLOWS.glob("*.json"))
NOTES = ("Note", "MarkdownNote")
TITLE = 30
"""Height of a node's title, which lies above its position."""

every_workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def box(node: dict) -> tuple[float, float, float, float]:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def test_the_files_are_what_their_builder_writes() -> None:
    for name, content in build_all().items():
        assert read(WORKFLOWS / f"{name}.json") == content, f"{name}: run python -m devkit.gallery"


def test_the_documentation_lists_them_all() -> None:
    text = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
    assert [path.stem for path in FILES if f"| `{path.stem}` |" not in text] == []


def test_what_runs_before_another_is_there() -> None:
    names = {path.stem for path in FILES}
    assert names >= set(BEFORE) | set(BEFORE.values())


@every_workflow
def test_every_workflow_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.size == (512, 384)
        assert len(picture.convert("L").getcolors() or range(256)) > 16


@every_workflow
def test_nodes_do_not_overlap_and_lie_in_groups(path: Path) -> None:
    saved = read(path)
    for one, other in itertools.combinations(saved["nodes"], 2):
        (a, b, c, d), (e, f, g, h) = box(one), box(other)
        assert c <= e or g <= a or d <= f or h <= b, f"{one['type']} and {other['type']} overlap"
    bounds = [group["bounding"] for group in saved["groups"]]
    for node in saved["nodes"]:
        left, top, right, bottom = box(node)
        holders = [b for b in bounds if b[0] <= left and b[1] <= top and b[0] + b[2] >= right]
        assert any(b[1] + b[3] >= bottom for b in holders), f"{node['type']} lies in no group"


@every_workflow
def test_links_are_sound_and_go_from_left_to_right(path: Path) -> None:
    saved = read(path)
    nodes = {node["id"]: node for node in saved["nodes"]}
    assert len({link[0] for link in saved["links"]}) == len(saved["links"])
    for number, source, output, target, slot, kind in saved["links"]:
        sender, taker = nodes[source], nodes[target]
        assert number in sender["outputs"][output]["links"]
        assert taker["inputs"][slot]["link"] == number
        assert sender["outputs"][output]["type"] == kind
        (x, y), (to_x, to_y) = sender["pos"], taker["pos"]
        assert x < to_x or (x == to_x and y < to_y), f"{sender['type']} feeds {taker['type']} backwards"
    linked = {link[0] for link in saved["links"]}
    for node in saved["nodes"]:
        assert {slot["link"] for slot in node["inputs"]} <= linked | {None}


@every_workflow
def test_a_note_explains_and_says_what_to_set(path: Path) -> None:
    notes = [node for node in read(path)["nodes"] if node["type"] in NOTES]
    text = "\n".join(note["widgets_values"][0] for note in notes)
    assert text.startswith("# ") and len(text) > 200
    assert "Stable Diffusion 1.5" in text


@every_workflow
def test_the_server_knows_every_node_and_value(path: Path, info: dict) -> None:
    saved = read(path)
    prompt = to_api(saved, info)
    used = [node for node in saved["nodes"] if node["type"] not in NOTES]
    assert len(prompt) == len(used)
    for node in used:
        about = info[node["type"]]
        outputs = [(slot["name"], slot["type"]) for slot in node["outputs"]]
        assert outputs == list(zip(about["output_name"], about["output"], strict=True))[: len(outputs)]
        known = {name for inputs in about["input_order"].values() for name in inputs}
        for slot in node["inputs"]:
            assert slot["name"].partition(".")[0] in known, f"{node['type']} has no input {slot['name']}"


def test_every_node_of_the_pack_is_in_a_workflow(info: dict) -> None:
    ours = {name for name in info if name.startswith("TAV")}
    used = {node["type"] for path in FILES for node in read(path)["nodes"]}
    assert ours - used == set()


def test_the_builder_s_table_is_that_of_the_nodes(info: dict) -> None:
    for kind, about in KINDS.items():
        if kind in NOTES:
            continue
        names = [name for inputs in info[kind]["input_order"].values() for name in inputs]
        widgets = [
            name for name in names if name not in {socket.partition(".")[0] for socket in about.inputs}
        ]
        assert widgets[: len(about.widgets)] == list(about.widgets), kind


def test_the_builder_refuses_what_does_not_fit() -> None:
    graph = Graph("wrong")
    graph.column("1", "#000")
    checkpoint = graph.add("CheckpointLoaderSimple")
    with pytest.raises(KeyError):
        graph.add("TAVInflateModel", inputs={"attentoin": "all"})
    with pytest.raises(KeyError, match="no input"):
        graph.add("TAVInflateModel", inputs={"modle": checkpoint["MODEL"]})
    with pytest.raises(ValueError, match="takes MODEL, not CLIP"):
        graph.add("TAVInflateModel", inputs={"model": checkpoint["CLIP"]})
