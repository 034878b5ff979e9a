"""Prompts and edits in an editing graph."""

from __future__ import annotations

import pytest

from devkit.edits import branch, set_edits, set_prompt, slug, texts
from devkit.workflow import WorkflowError, find


def graph() -> dict:
    """The shape of the quickstart graph: one edit, a side-by-side video and a contact sheet."""
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "x"}),
        "2": ("TAVLoadVideo", {"video": "x.mp4"}),
        "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a cat"}),
        "4": ("CLIPTextEncode", {"clip": ["1", 1], "text": "a dog"}),
        "5": ("CLIPTextEncode", {"clip": ["1", 1], "text": ""}),
        "6": ("TAVTune", {"model": ["1", 0], "positive": ["3", 0], "steps": 5}),
        "7": ("TAVDDIMInversion", {"model": ["6", 0], "positive": ["5", 0]}),
        "8": (
            "TAVSample",
            {"model": ["6", 0], "positive": ["4", 0], "negative": ["5", 0], "latent": ["7", 0]},
        ),
        "9": ("VAEDecode", {"samples": ["8", 0], "vae": ["1", 2]}),
        "10": ("CreateVideo", {"images": ["9", 0], "fps": ["2", 1]}),
        "11": ("SaveVideo", {"video": ["10", 0], "filename_prefix": "edit"}),
        "12": ("TAVCompareVideos", {"source": ["2", 0], "edited.edited_1": ["9", 0], "captions": ""}),
        "13": ("SaveImage", {"images": ["12", 0], "filename_prefix": "sheet"}),
    }
    return {node: {"class_type": kind, "inputs": inputs} for node, (kind, inputs) in nodes.items()}


def test_texts_are_found_and_set():
    prompt = graph()
    assert texts(prompt) == ("a cat", ["a dog"])
    set_prompt(prompt, "a bird")
    assert texts(prompt) == ("a bird", ["a dog"])


def test_a_branch_is_what_follows_from_a_text_up_to_the_comparison():
    assert branch(graph(), "4") == ["4", "8", "9", "10", "11"]


def test_several_edits_repeat_the_branch_and_reach_the_comparison():
    prompt = graph()
    set_edits(prompt, ["a fox", "a cow", "a hen"])
    assert texts(prompt) == ("a cat", ["a fox", "a cow", "a hen"])
    assert len(prompt) == 13 + 2 * 5
    assert len(find(prompt, "TAVTune")) == len(find(prompt, "TAVDDIMInversion")) == 1
    compare = prompt["12"]["inputs"]
    assert compare["captions"].splitlines() == ["a cat", "a fox", "a cow", "a hen"]
    decoded = [compare[f"edited.edited_{number}"][0] for number in (1, 2, 3)]
    assert decoded[0] == "9" and len(set(decoded)) == 3
    for node in decoded:
        sample = prompt[node]["inputs"]["samples"][0]
        assert prompt[sample]["inputs"]["latent"] == ["7", 0]
        assert prompt[sample]["inputs"]["negative"] == ["5", 0]


def test_fewer_edits_than_the_graph_had():
    prompt = graph()
    set_edits(prompt, ["a fox", "a cow"])
    set_edits(prompt, ["a hen"])
    assert texts(prompt) == ("a cat", ["a hen"])
    assert len(prompt) == 13
    assert [name for name in prompt["12"]["inputs"] if name.startswith("edited.")] == ["edited.edited_1"]
    assert prompt["12"]["inputs"]["captions"] == "a cat\na hen"


def test_captions_are_single_lines():
    prompt = graph()
    set_edits(prompt, ["a fox,\n  red"])
    assert prompt["12"]["inputs"]["captions"] == "a cat\na fox, red"


def test_a_graph_without_the_nodes_is_refused():
    prompt = graph()
    prompt["6"]["inputs"]["positive"] = ["7", 0]
    with pytest.raises(WorkflowError, match="TAVTune gets 0 texts"):
        set_prompt(prompt, "x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A Cat, on the Beach!", "a-cat-on-the-beach"),
        ("猫が歩く", "猫が歩く"),
        ("../..", "edit"),
        ("a" * 99, "a" * 40),
    ],
)
def test_slug(text, name):
    assert slug(text) == name
