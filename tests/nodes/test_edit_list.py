"""List of Edits: several sentences, one tuning, one inversion, one grid."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import base, inflate, invert, link, node, sample
from PIL import Image

from devkit.client import Client, PromptRejected
from devkit.server import Server

EDITS = ("a cat on the grass", "a rabbit on the snow, sketch style")


def branch(number: int, positive: list) -> dict:
    """Sampling and decoding of one edit."""
    return {
        f"sampled {number}": sample(link("inflated"), link("noise"), positive=positive),
        f"frames {number}": node("VAEDecode", samples=link(f"sampled {number}"), vae=link("ckpt", 2)),
    }


def sheet(name: str, edited: dict, captions: object) -> dict:
    inputs = {"source": link("clip"), "captions": captions, "layout": "contact sheet", "columns": 2}
    videos = {f"edited.edited_{number}": frames for number, frames in edited.items()}
    return {
        f"{name} sheet": node("TAVCompareVideos", **inputs, **videos),
        name: node("SaveImage", images=link(f"{name} sheet"), filename_prefix=f"edits/{name}"),
    }


def test_a_list_gives_the_grid_that_a_branch_per_edit_gives(server: Server, client: Client) -> None:
    text = f"\n{EDITS[0]}\n\n   {EDITS[1]}  \n"
    graph = base() | {
        "inflated": inflate(link("ckpt")),
        "noise": invert(link("inflated")),
        "list": node("TAVEditList", clip=link("ckpt", 1), edits=text, source="the\nclip"),
        **branch(0, link("list")),
        **sheet("listed", {1: link("frames 0")}, link("list", 1)),
    }
    for number, edit in enumerate(EDITS, 1):
        graph[f"edit {number}"] = node("CLIPTextEncode", clip=link("ckpt", 1), text=edit)
        graph |= branch(number, link(f"edit {number}"))
    branches = {number: link(f"frames {number}") for number in (1, 2)}
    graph |= sheet("branched", branches, "\n".join(("the clip", *EDITS)))
    result = client.run(graph).check()
    pictures = []
    for name in ("listed", "branched"):
        (file,) = result.files(name)
        pictures.append(np.asarray(Image.open(server.base / "output" / file["subfolder"] / file["filename"])))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_a_list_without_a_sentence_is_refused_before_the_run(client: Client, text: str) -> None:
    graph = base() | {
        "list": node("TAVEditList", clip=link("ckpt", 1), edits=text, source="Source"),
        "shown": node("PreviewAny", source=link("list", 1)),
    }
    with pytest.raises(PromptRejected, match="write one edit per line"):
        client.run(graph)


def test_no_text_encoder_and_connected_emptiness_are_told(pack) -> None:
    edit_list = pack("nodes.edit_list").TAVEditList
    with pytest.raises(ValueError, match="no text encoder"):
        edit_list.execute(None, "a cat", "Source")
    with pytest.raises(ValueError, match="one edit per line"):
        edit_list.execute(object(), " ", "Source")
