"""The subgraph blueprints: in step with their builder, listed by the server, and the same as the workflows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
import torch
from runs import Runs

from devkit.base import PACK_NAME
from devkit.gallery.blueprints import build_blueprints
from devkit.gallery.graph import OUTSIDE, RESULT
from devkit.gallery.kinds import KINDS
from devkit.paths import SUBGRAPHS
from devkit.workflow import find_one, to_api

FILES = sorted(SUBGRAPHS.glob("*.json"))

every_blueprint = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> tuple[dict, dict]:
    """The node as it is seen from outside, and the subgraph in it."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    return saved["nodes"][0], saved["definitions"]["subgraphs"][0]


def inner_prompt(subgraph: dict, info: dict, given: dict) -> dict:
    """The subgraph in API format, with what comes in from outside: {name: value or [node, output]}."""
    names = [entry["name"] for entry in subgraph["inputs"]]
    order = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    inside = [link for link in subgraph["links"] if OUTSIDE != link["origin_id"]]
    links = [[link[key] for key in order] for link in inside if link["target_id"] != RESULT]
    prompt = to_api({"nodes": subgraph["nodes"], "links": links}, info)
    slots = {node["id"]: node["inputs"] for node in subgraph["nodes"]}
    for link in subgraph["links"]:
        if link["origin_id"] == OUTSIDE:
            name = slots[link["target_id"]][link["target_slot"]]["name"]
            prompt[str(link["target_id"])]["inputs"][name] = given[names[link["origin_slot"]]]
    return prompt


def test_the_files_are_what_their_builder_writes() -> None:
    built = build_blueprints()
    assert {path.stem for path in FILES} == set(built)
    for path in FILES:
        assert json.loads(path.read_text(encoding="utf-8")) == built[path.stem], (
            "run python -m devkit.gallery"
        )


@every_blueprint
def test_what_is_shown_outside_is_linked_inside(path: Path) -> None:
    outer, subgraph = read(path)
    assert outer["type"] == subgraph["id"]
    for side, ends in (("inputs", subgraph["inputs"]), ("outputs", subgraph["outputs"])):
        assert [(slot["name"], slot["type"]) for slot in outer[side]] == [
            (e["name"], e["type"]) for e in ends
        ]
        assert all(end["linkIds"] for end in ends)
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    links = {link["id"]: link for link in subgraph["links"]}
    for index, end in enumerate(subgraph["inputs"]):
        for link in (links[number] for number in end["linkIds"]):
            slot = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert (link["origin_id"], link["origin_slot"]) == (OUTSIDE, index)
            assert slot["link"] == link["id"] and slot["type"] == end["type"]
    for index, end in enumerate(subgraph["outputs"]):
        (link,) = (links[number] for number in end["linkIds"])
        assert (link["target_id"], link["target_slot"]) == (RESULT, index)
        assert nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["type"] == end["type"]
    for node, widget in outer["properties"]["proxyWidgets"]:
        if node == "-1":
            assert widget in {slot["name"] for slot in outer["inputs"] if "widget" in slot}
        else:
            assert widget in KINDS[nodes[int(node)]["type"]].widgets


def test_the_server_offers_them_as_the_pack_s(runs: Runs) -> None:
    runs.server.start()
    offered = requests.get(f"{runs.server.url}/global_subgraphs", timeout=60).json().values()
    ours = {entry["name"] for entry in offered if entry["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"}
    assert ours == {path.stem for path in FILES}


def test_editing_with_the_blueprint_is_the_quickstart_bit_for_bit(runs: Runs) -> None:
    _, subgraph = read(SUBGRAPHS / "Edit Video with Words.json")
    quickstart = runs.prompt("quickstart")
    outside = {f"out{node}": content for node, content in quickstart.items()}
    checkpoint, video = (
        f"out{find_one(quickstart, kind)}" for kind in ("CheckpointLoaderSimple", "TAVLoadVideo")
    )
    given = {"model": [checkpoint, 0], "clip": [checkpoint, 1], "vae": [checkpoint, 2], "frames": [video, 0]}
    texts = {"source_prompt": "a rabbit on the grass", "edit_prompt": "a cat on the beach"}
    prompt = inner_prompt(subgraph, runs.info, given | texts)
    runs.make_small(prompt)
    loaders = {node: outside[node] for node in (checkpoint, video)}
    again = runs.run(prompt | loaders)
    assert torch.equal(again.latents(), runs.of("quickstart").latents())
