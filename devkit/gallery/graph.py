"""A workflow as ComfyUI's front end saves it (version 0.4), laid out in columns from left to right."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from .kinds import KINDS

WIDTH = 400
"""Width of every node, in the front end's pixels."""

_PITCH, _TOP, _GAP, _MARGIN, _HEADING = 480, 90, 80, 20, 50
_NOTE_LETTERS, _NOTE_LINE, _NOTE_LEAST = 46, 21, 160
_NAMESPACE = uuid.UUID("7d0c8c5e-4a39-4c0b-9c5a-2f6d0e8a1b01")

BLUE, GREEN, GOLD, PURPLE, GREY = "#3f789e", "#8A8", "#b58b2a", "#a1309b", "#88A"
_NOTE, _POSITIVE, _NEGATIVE = ("#432", "#653"), ("#232", "#353"), ("#322", "#533")


OUTSIDE, RESULT = -10, -20
"""What the front end calls the two ends of a subgraph, in place of a node."""


class Socket(NamedTuple):
    """An output of a node, or, for the node `OUTSIDE`, an input of the subgraph."""

    node: int
    index: int
    type: str


class Node:
    """A node of a graph; node["MODEL"] is its output of that name."""

    def __init__(self, number: int, kind: str) -> None:
        self.number, self.kind = number, kind

    def __getitem__(self, output: str) -> Socket:
        outputs = KINDS[self.kind].outputs
        return Socket(self.number, list(outputs).index(output), outputs[output])


class Graph:
    """Nodes in columns; each column is a group. Later columns take from earlier ones, lower nodes from upper ones."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[dict] = []
        self._links: list[list] = []
        self._groups: list[dict] = []
        self._bottom = _TOP

    def column(self, title: str, colour: str) -> None:
        """Start the next column."""
        left = 20 + _PITCH * len(self._groups)
        group = {
            "id": len(self._groups) + 1,
            "title": title,
            "bounding": [left, _TOP - _HEADING - 30, WIDTH + 2 * _MARGIN, 0],
            "color": colour,
            "font_size": 24,
            "flags": {},
        }
        self._groups.append(group)
        self._bottom = _TOP

    def note(self, text: str) -> None:
        """Add a note, as high as its text."""
        lines = sum(len(line) // _NOTE_LETTERS + 1 for line in text.splitlines())
        self._add("MarkdownNote", "Read me", {"text": text}, max(_NOTE_LEAST, 60 + _NOTE_LINE * lines), _NOTE)

    def text(self, title: str, clip: Socket, text: str, negative: bool = False) -> Socket:
        """Add a CLIP Text Encode, coloured by what it is for, and return its conditioning."""
        height = 110 if not text else KINDS["CLIPTextEncode"].height
        colour = _NEGATIVE if negative else _POSITIVE
        return self._add("CLIPTextEncode", title, {"clip": clip, "text": text}, height, colour)[
            "CONDITIONING"
        ]

    def add(self, kind: str, title: str | None = None, inputs: dict[str, Any] | None = None) -> Node:
        """Add a node to the column. `inputs`: a Socket is linked, anything else is a widget's value.

        Raises KeyError for an input that the kind does not have, ValueError for a link of the wrong type.
        """
        return self._add(kind, title, inputs or {}, KINDS[kind].height)

    def _add(
        self, kind: str, title: str | None, inputs: dict, height: int, colour: tuple[str, str] | None = None
    ) -> Node:
        number = len(self._nodes) + 1
        about = KINDS[kind]
        links = {name: value for name, value in inputs.items() if isinstance(value, Socket)}
        values = {name: value for name, value in inputs.items() if name not in links}
        widgets = dict(about.widgets)
        for name in values:
            widgets[name]  # a widget that the kind does not have is a KeyError
        group = self._groups[-1]["bounding"]
        saved = {
            "id": number,
            "type": kind,
            "pos": [group[0] + _MARGIN, self._bottom],
            "size": [WIDTH, height],
            "flags": {},
            "order": number - 1,
            "mode": 0,
            "inputs": [{"name": name, "type": type_, "link": None} for name, type_ in about.inputs.items()],
            "outputs": [
                {"name": name, "type": type_, "links": None} for name, type_ in about.outputs.items()
            ],
            "properties": {"Node name for S&R": kind},
            "widgets_values": list((widgets | values).values()),
        }
        if title:
            saved["title"] = title
        if colour:
            saved["color"], saved["bgcolor"] = colour
        self._nodes.append(saved)
        for name, socket in links.items():
            self._link(socket, saved, name)
        self._bottom += height + _GAP
        group[3] = max(group[3], self._bottom - _GAP + _MARGIN - group[1])
        return Node(number, kind)

    def _link(self, source: Socket, target: dict, name: str) -> None:
        slots = target["inputs"]
        index = next((index for index, slot in enumerate(slots) if slot["name"] == name), None)
        if index is None:
            index = len(slots)
            slots.append(self._extra_slot(target["type"], name, source))
        if slots[index]["type"] != source.type:
            raise ValueError(f"{target['type']}.{name} takes {slots[index]['type']}, not {source.type}.")
        number = len(self._links) + 1
        slots[index]["link"] = number
        if source.node != OUTSIDE:
            self._leave(source, number)
        self._links.append([number, source.node, source.index, target["id"], index, source.type])

    def _leave(self, source: Socket, link: int) -> None:
        output = self._nodes[source.node - 1]["outputs"][source.index]
        output["links"] = [*(output["links"] or []), link]

    @staticmethod
    def _extra_slot(kind: str, name: str, source: Socket) -> dict:
        """A slot that the kind's table does not list: a widget that is linked, or one more of a growing input."""
        slot = {"name": name, "type": source.type, "link": None}
        if name in KINDS[kind].widgets:
            return slot | {"widget": {"name": name}}
        stem, _, number = name.rpartition("_")
        if number.isdecimal() and f"{stem}_1" in KINDS[kind].inputs:
            return slot
        raise KeyError(f"{kind} has no input {name!r}.")

    def give(self, index: int, source: Socket) -> None:
        """Link an output of a node to output `index` of the subgraph that this graph is."""
        number = len(self._links) + 1
        self._leave(source, number)
        self._links.append([number, source.node, source.index, RESULT, index, source.type])

    def saved(self) -> dict:
        """The workflow file's content."""
        return {
            "id": str(uuid.uuid5(_NAMESPACE, self.name)),
            "revision": 0,
            "last_node_id": len(self._nodes),
            "last_link_id": len(self._links),
            "nodes": self._nodes,
            "links": self._links,
            "groups": self._groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }
