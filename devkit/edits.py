"""Changes to an editing graph (API format) that setting an input cannot make: other texts, more edits.

The graph is asked, not assumed: the prompt is the text that TAVTune gets, an edit is the text that a
TAVSample gets as its positive conditioning, and whatever follows from that text belongs to the edit.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from .workflow import WorkflowError, find, find_one

_TEXT = "CLIPTextEncode"
_COMPARE = "TAVCompareVideos"


def prompt_node(prompt: dict) -> str:
    """The id of the node that holds the source prompt: the text encoder that TAVTune gets."""
    tune = find_one(prompt, "TAVTune")
    texts = [source for _, source in _links(prompt[tune]) if prompt[source]["class_type"] == _TEXT]
    if len(texts) != 1:
        raise WorkflowError(f"TAVTune gets {len(texts)} texts instead of one.")
    return texts[0]


def edit_node(prompt: dict, sample: str) -> str:
    """The id of the text encoder whose text the TAVSample node `sample` edits towards."""
    for name, source in _links(prompt[sample]):
        if name == "positive" and prompt[source]["class_type"] == _TEXT:
            return source
    raise WorkflowError(f"TAVSample (node {sample}) gets no text as its positive conditioning.")


def set_prompt(prompt: dict, text: str) -> None:
    """Set the source prompt."""
    prompt[prompt_node(prompt)]["inputs"]["text"] = text


def texts(prompt: dict) -> tuple[str, list[str]]:
    """The source prompt and the edits, in the order of their TAVSample nodes."""
    edits = [edit_node(prompt, sample) for sample in find(prompt, "TAVSample")]
    return prompt[prompt_node(prompt)]["inputs"]["text"], [prompt[node]["inputs"]["text"] for node in edits]


def set_edits(prompt: dict, edits: Sequence[str]) -> None:
    """Make the graph sample one video for each of the texts `edits` (at least one).

    The branch of the graph's first edit (its text and everything made from it) is repeated for each text;
    branches of further edits that the graph had are removed. Comparisons get every edit and its caption.
    """
    first, *others = find(prompt, "TAVSample")
    for sample in others:
        _remove(prompt, branch(prompt, edit_node(prompt, sample)))
    text_node = edit_node(prompt, first)
    original = branch(prompt, text_node)
    prompt[text_node]["inputs"]["text"] = edits[0]
    for text in edits[1:]:
        copies = _repeat(prompt, original)
        prompt[copies[text_node]]["inputs"]["text"] = text
        for compare in find(prompt, _COMPARE):
            _compare_more(prompt[compare], copies)
    caption(prompt)


def caption(prompt: dict) -> None:
    """Give every comparison of the source with edits its captions: the source prompt, then each edit."""
    source, edits = texts(prompt)
    lines = [" ".join(text.split()) for text in (source, *edits)]
    for compare in find(prompt, _COMPARE):
        shown = [name for name, _ in _links(prompt[compare]) if name.startswith("edited.")]
        if len(shown) == len(edits):
            prompt[compare]["inputs"]["captions"] = "\n".join(lines)


def branch(prompt: dict, start: str) -> list[str]:
    """`start` and every node that is made from it, comparisons and what follows them left out."""
    found = [start]
    for node in found:
        for other, content in prompt.items():
            follows = any(source == node for _, source in _links(content))
            if follows and other not in found and content["class_type"] != _COMPARE:
                found.append(other)
    return found


def slug(text: str, longest: int = 40) -> str:
    """`text` as a part of a file name: small letters, digits and hyphens; unicode letters are kept."""
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    return words[:longest].rstrip("-") or "edit"


def _links(node: dict) -> list[tuple[str, str]]:
    """The inputs of a node that are links: (name, id of the node linked to)."""
    return [
        (name, value[0])
        for name, value in node["inputs"].items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    ]


def _remove(prompt: dict, nodes: Sequence[str]) -> None:
    for node in nodes:
        del prompt[node]
    for content in prompt.values():
        for name, source in _links(content):
            if source in nodes:
                del content["inputs"][name]


def _repeat(prompt: dict, nodes: Sequence[str]) -> dict[str, str]:
    """Copy `nodes` with the links among them; returns {id: id of its copy}."""
    next_id = max(int(node) for node in prompt) + 1
    copies = {node: str(next_id + index) for index, node in enumerate(nodes)}
    for node, new in copies.items():
        content = copy.deepcopy(prompt[node])
        for name, source in _links(content):
            if source in copies:
                content["inputs"][name][0] = copies[source]
        prompt[new] = content
    return copies


def _compare_more(compare: dict, copies: dict[str, str]) -> None:
    """Connect the copy of an edited video to the comparison that shows the original."""
    links = _links(compare)
    numbers = [int(name.rpartition("_")[2]) for name, _ in links if name.startswith("edited.")]
    for name, source in links:
        if source in copies:
            link = [copies[source], compare["inputs"][name][1]]
            compare["inputs"][f"edited.edited_{max(numbers) + 1}"] = link
