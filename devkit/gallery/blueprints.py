"""Subgraph blueprints: whole workflows as one node, listed in ComfyUI's node library under the pack."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import NamedTuple

from . import parts
from .graph import GOLD, GREEN, OUTSIDE, PURPLE, RESULT, WIDTH, Graph, Node, Socket
from .parts import EDIT_PROMPT, EMPTY, SOURCE, SOURCE_PROMPT

_CATEGORY = "Tune-A-Video"
_LIST = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_MODELS = {"model": "MODEL", "clip": "CLIP", "vae": "VAE"}


class Blueprint(NamedTuple):
    """A blueprint: what goes in and comes out as {name: type}, the texts' first values, and the graph inside.

    A STRING that goes in is a text field on the node. fill: builds the graph from the sockets that come in; returns
    what comes out, and the widgets that are shown on the outside.
    """

    title: str
    description: str
    inputs: Mapping[str, str]
    texts: Mapping[str, str]
    outputs: Mapping[str, str]
    fill: Callable[[Graph, dict[str, Socket]], tuple[list[Socket], list[tuple[Node, str]]]]


def _fill_edit(graph: Graph, given: dict[str, Socket]) -> tuple[list[Socket], list[tuple[Node, str]]]:
    graph.column("Prompts and frames", GREEN)
    source = graph.add(
        "CLIPTextEncode", SOURCE_PROMPT, {"clip": given["clip"], "text": given["source_prompt"]}
    )
    edit, empty, latent = _words_and_frames(graph, given)
    model = parts.inflate(graph, given["model"])
    graph.column("Tune and invert", GOLD)
    inputs = {"model": model, "latent": latent, "positive": source["CONDITIONING"]}
    tune = graph.add("TAVTune", inputs=inputs)
    frames, shown = _invert_and_draw(graph, given, tune["MODEL"], (edit, empty), latent)
    tuning = [(tune, name) for name in ("steps", "learning_rate", "timesteps", "temporal_lr_scale")]
    return [frames, tune["weights"]], [*tuning, *shown]


def _fill_edit_again(graph: Graph, given: dict[str, Socket]) -> tuple[list[Socket], list[tuple[Node, str]]]:
    graph.column("Prompts and frames", GREEN)
    edit, empty, latent = _words_and_frames(graph, given)
    graph.column("Apply and invert", GOLD)
    inputs = {"model": given["model"], "weights": given["weights"]}
    apply = graph.add("TAVApplyWeights", inputs=inputs)
    frames, shown = _invert_and_draw(graph, given, apply["MODEL"], (edit, empty), latent)
    return [frames], [(apply, "query_strength"), (apply, "temporal_strength"), *shown]


def _words_and_frames(graph: Graph, given: dict[str, Socket]) -> tuple[Socket, Socket, Socket]:
    inputs = {"clip": given["clip"], "text": given["edit_prompt"]}
    edit = graph.add("CLIPTextEncode", EDIT_PROMPT, inputs)["CONDITIONING"]
    empty = graph.text(EMPTY, given["clip"], "", negative=True)
    latent = graph.add("VAEEncode", inputs={"pixels": given["frames"], "vae": given["vae"]})["LATENT"]
    return edit, empty, latent


def _invert_and_draw(
    graph: Graph, given: dict[str, Socket], model: Socket, pair: tuple[Socket, Socket], latent: Socket
) -> tuple[Socket, list[tuple[Node, str]]]:
    inputs = {"model": model, "conditioning": pair[1], "latent": latent}
    inversion = graph.add("TAVDDIMInversion", inputs=inputs)
    graph.column("Sample", PURPLE)
    inputs = {"model": model, "positive": pair[0], "negative": pair[1], "latent": inversion["LATENT"]}
    sample = graph.add("TAVSample", inputs=inputs)
    frames = graph.add("VAEDecode", inputs={"samples": sample["LATENT"], "vae": given["vae"]})["IMAGE"]
    return frames, [(inversion, "steps"), (inversion, "strength"), (sample, "steps"), (sample, "cfg")]


_TEXTS = {"source_prompt": SOURCE, "edit_prompt": "a cat on the beach"}

BLUEPRINTS = (
    Blueprint(
        "Edit Video with Words",
        "Tunes a Stable Diffusion model on the frames of one clip, inverts the clip, and regenerates it with the "
        "edit prompt.",
        {**_MODELS, "frames": "IMAGE", **dict.fromkeys(_TEXTS, "STRING")},
        _TEXTS,
        {"frames": "IMAGE", "weights": "TAV_WEIGHTS"},
        _fill_edit,
    ),
    Blueprint(
        "Edit Video with Tuned Weights",
        "Regenerates a clip with an edit prompt and weights that were tuned before; nothing is tuned.",
        {**_MODELS, "weights": "TAV_WEIGHTS", "frames": "IMAGE", "edit_prompt": "STRING"},
        {"edit_prompt": _TEXTS["edit_prompt"]},
        {"frames": "IMAGE"},
        _fill_edit_again,
    ),
)


def build_blueprints() -> dict[str, dict]:
    """The content of every blueprint file, by its name without .json."""
    return {blueprint.title: _saved(blueprint) for blueprint in BLUEPRINTS}


def _saved(blueprint: Blueprint) -> dict:
    graph = Graph(blueprint.title)
    given = {
        name: Socket(OUTSIDE, index, type_) for index, (name, type_) in enumerate(blueprint.inputs.items())
    }
    results, shown = blueprint.fill(graph, given)
    for index, socket in enumerate(results):
        graph.give(index, socket)
    inner = graph.saved()
    identity = inner["id"]
    right = max(node["pos"][0] for node in inner["nodes"]) + WIDTH + 120
    outer = {
        "id": 1,
        "type": identity,
        "pos": [0, 0],
        "size": [WIDTH, 510],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [_outer_input(name, type_) for name, type_ in blueprint.inputs.items()],
        "outputs": [
            {"name": name, "type": type_, "links": None} for name, type_ in blueprint.outputs.items()
        ],
        "title": blueprint.title,
        "properties": {
            "proxyWidgets": [["-1", name] for name in blueprint.texts]
            + [[str(node.number), widget] for node, widget in shown]
        },
        "widgets_values": list(blueprint.texts.values()),
    }
    links = [dict(zip(_LIST, link, strict=True)) for link in inner["links"]]
    subgraph = {
        "id": identity,
        "version": 1,
        "state": {
            "lastGroupId": len(inner["groups"]),
            "lastNodeId": inner["last_node_id"],
            "lastLinkId": inner["last_link_id"],
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": blueprint.title,
        "inputNode": {"id": OUTSIDE, "bounding": [-160, 90, 120, 20 * len(given) + 40]},
        "outputNode": {"id": RESULT, "bounding": [right, 90, 120, 20 * len(results) + 40]},
        "inputs": [
            _end(identity, "in", name, type_, [link["id"] for link in links if _from(link, index)])
            for index, (name, type_) in enumerate(blueprint.inputs.items())
        ],
        "outputs": [
            _end(identity, "out", name, type_, [link["id"] for link in links if _to(link, index)])
            for index, (name, type_) in enumerate(blueprint.outputs.items())
        ],
        "widgets": [],
        "nodes": inner["nodes"],
        "groups": inner["groups"],
        "links": links,
        "extra": {},
        "category": _CATEGORY,
        "description": blueprint.description,
    }
    return {
        "id": identity,
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def _outer_input(name: str, type_: str) -> dict:
    slot = {"name": name, "type": type_, "link": None}
    return slot | {"widget": {"name": name}} if type_ == "STRING" else slot


def _end(identity: str, side: str, name: str, type_: str, links: list[int]) -> dict:
    return {
        "id": str(uuid.uuid5(uuid.UUID(identity), f"{side} {name}")),
        "name": name,
        "type": type_,
        "linkIds": links,
    }


def _from(link: dict, index: int) -> bool:
    return link["origin_id"] == OUTSIDE and link["origin_slot"] == index


def _to(link: dict, index: int) -> bool:
    return link["target_id"] == RESULT and link["target_slot"] == index
