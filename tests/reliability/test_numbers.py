"""Numbers that no widget lets through, as they come over connections; and NaN, which widgets do let through."""

from __future__ import annotations

import math

import pytest
import torch
from graphs import base, invert, link, node, save_latent
from workbench import Workbench, assert_plain

from devkit.client import Client

NUMBERS = ("INT", "FLOAT")
MOST = 0xFFFFFFFFFFFFFFFF


def numeric_inputs(node) -> list:
    return [entry for entry in node.define_schema().inputs if entry.get_io_type() in NUMBERS]


NODES = [
    "TAVLoadVideo",
    "TAVInflateModel",
    "TAVTune",
    "TAVApplyWeights",
    "TAVPromptSchedule",
    "TAVDDIMInversion",
]
NODES += ["TAVSample", "TAVDDIMSampler", "TAVDDIMSigmas", "TAVCompareVideos"]


def test_every_node_with_numbers_is_tried(bench: Workbench) -> None:
    found = bench.pack("nodes")
    classes = [value for name, value in vars(found).items() if name.startswith("TAV")]
    assert sorted(node.__name__ for node in classes if numeric_inputs(node)) == sorted(NODES)


@pytest.mark.parametrize("name", NODES)
def test_numbers_out_of_range_are_refused_before_any_work(bench: Workbench, name: str) -> None:
    node = bench.node(name)
    connected = {
        "MODEL": bench.model,
        "CLIP": bench.clip,
        "LATENT": bench.latent,
        "CONDITIONING": bench.source,
        "TAV_WEIGHTS": bench.weights(),
        "IMAGE": torch.zeros(3, 8, 8, 3),
        "COMFY_AUTOGROW_V3": {},
    }
    inputs = {}
    for entry in node.define_schema().inputs:
        if not getattr(entry, "optional", False):
            kind = entry.get_io_type()
            inputs[entry.id] = connected[kind] if kind in connected else getattr(entry, "default", "")
    if node.define_schema().is_input_list:
        inputs = {key: value if isinstance(value, dict) else [value] for key, value in inputs.items()}
    for entry in numeric_inputs(node):
        beyond = [entry.min - 1, entry.max + 1, 10**30, -(10**30)]
        for value in [*beyond, math.nan, math.inf, -math.inf]:
            given = [value] if node.define_schema().is_input_list else value
            with pytest.raises(ValueError) as caught:
                bench.run(node, **{**inputs, entry.id: given})
            assert_plain(str(caught.value), f"'{entry.id}'", "from", "to")


def test_the_largest_seed_is_a_seed(bench: Workbench) -> None:
    bench.tune(steps=1, seed=MOST, query_rank=2)
    drawn = bench.sample(bench.inflate(), bench.latent, start="random noise", eta=0.5, seed=MOST)
    assert bool(drawn.isfinite().all())


def test_a_number_that_is_none_is_told_by_the_server(client: Client) -> None:
    """What Evaluate Video did not measure is NaN, and NaN is in every range that is asked with < and >."""
    graph = base() | {
        "frames": node("EmptyImage", width=64, height=64, batch_size=2, color=0),
        "measured": node("TAVEvaluate", frames=link("frames"), prompt="", clip_model="none"),
        "noise": invert(link("ckpt"), cfg=link("measured", 2)),
    }
    graph["save"] = save_latent(link("noise"), "numbers/never")
    error = client.run(graph).error
    assert error is not None and error.node == "noise"
    assert_plain(error.message, "'cfg'", "not nan")
