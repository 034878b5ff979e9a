"""Workflows saved by the ComfyUI front end, turned into the API format that the server executes.

The front end does this conversion in the browser; a command line that wants to run the very file a user opens
needs it too. Understood: file versions 0.4 and 1.0, widget values (also of dynamic combos and with the extra
values of `control after generate` and upload buttons), linked widgets, Reroute, PrimitiveNode, notes, muted
and bypassed nodes. Not understood, and refused: subgraphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .say import DevError

_MUTED = 2
_BYPASSED = 4
_NOTES = ("Note", "MarkdownNote")
_VIRTUAL = ("Reroute", "PrimitiveNode", *_NOTES)
_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "COMFY_DYNAMICCOMBO_V3")
_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_SEEDS = ("seed", "noise_seed")
_AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
_UPLOAD_VALUE = "image"  # what the front end stores for an upload button, whatever it uploads
_MISSING = object()


class WorkflowError(DevError):
    """The workflow cannot be converted or changed as asked; the message says why."""


class _Slot(NamedTuple):
    """One output of one node."""

    node: int | str
    index: int


class _Literal(NamedTuple):
    """The value of a PrimitiveNode."""

    value: Any


def to_api(workflow: dict, object_info: dict) -> dict:
    """Convert a workflow in the front end's format to the API format.

    object_info: the server's answer to /object_info. Returns {node id: {class_type, inputs, _meta}}. Raises
    WorkflowError for a node type the server does not have, and for a subgraph.
    """
    if "nodes" not in workflow:
        raise WorkflowError("This is not a workflow saved by the ComfyUI front end: it has no list of nodes.")
    graph = _Graph(workflow)
    prompt = {}
    for node in graph.nodes.values():
        if node["type"] in _VIRTUAL or node.get("mode", 0) in (_MUTED, _BYPASSED):
            continue
        info = object_info.get(node["type"])
        if info is None:
            raise _unknown(node, workflow)
        inputs = dict(widget_values(node, info))
        for slot in node.get("inputs") or []:
            source = graph.resolve(slot.get("link"))
            if isinstance(source, _Slot):
                inputs[slot["name"]] = [str(source.node), source.index]
            elif isinstance(source, _Literal):
                inputs[slot["name"]] = source.value
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": _title(node, info)},
        }
    return prompt


def _title(node: dict, info: dict) -> str:
    return node.get("title") or info.get("display_name") or node["type"]


def _unknown(node: dict, workflow: dict) -> WorkflowError:
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    if any(node["type"] == subgraph.get("id") for subgraph in subgraphs):
        return WorkflowError(f"Node {node['id']} is a subgraph; expand it in the front end and save again.")
    return WorkflowError(
        f"The server has no node type {node['type']!r} (node {node['id']}): is the pack that brings it "
        "installed, and did it load without an error?"
    )


class _Graph:
    """The nodes and links of a workflow."""

    def __init__(self, workflow: dict) -> None:
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self._links = dict(self._read_links(workflow.get("links") or []))

    @staticmethod
    def _read_links(links: list) -> Iterator[tuple[int, tuple[_Slot, str]]]:
        for link in links:
            if isinstance(link, dict):  # version 1.0
                yield link["id"], (_Slot(link["origin_id"], link["origin_slot"]), link["type"])
            else:  # version 0.4: id, origin, slot, target, slot, type
                yield link[0], (_Slot(link[1], link[2]), link[5])

    def resolve(self, link_id: int | None) -> _Slot | _Literal | None:
        """What really feeds a link: through reroutes and bypassed nodes; None when nothing does."""
        seen = set()
        while link_id is not None and link_id in self._links and link_id not in seen:
            seen.add(link_id)
            source, kind = self._links[link_id]
            node = self.nodes.get(source.node)
            if node is None or node.get("mode", 0) == _MUTED:
                return None
            if node["type"] == "PrimitiveNode":
                return _Literal(node["widgets_values"][0])
            if node["type"] == "Reroute":
                link_id = node["inputs"][0].get("link")
            elif node.get("mode", 0) == _BYPASSED:
                link_id = self._through(node, source.index, kind)
            else:
                return source
        return None

    @staticmethod
    def _through(node: dict, index: int, kind: str) -> int | None:
        """The link that replaces output `index` of a bypassed node: an input of its type."""
        inputs = node.get("inputs") or []
        outputs = node.get("outputs") or []
        wanted = outputs[index]["type"] if index < len(outputs) else kind
        same = inputs[index : index + 1]
        for slot in [*same, *inputs]:
            if wanted in (slot["type"], "*") or slot["type"] == "*":
                return slot.get("link")
        return None


def widget_values(node: dict, info: dict) -> Iterator[tuple[str, Any]]:
    """The names and values of a node's widgets, in the order the front end made them.

    A widget that the file has no value for gets its default, as in the front end.
    """
    stored = node.get("widgets_values")
    if isinstance(stored, dict):
        for name, spec, _ in _widgets(node, info["input"], info.get("input_order")):
            value = stored.get(name, _default(spec))
            if value is not _MISSING:
                yield name, _wrapped(value)
        return
    yield from _take(_Values(stored or []), node, info["input"], info.get("input_order"), "")


class _Values:
    """The stored widget values, taken one by one."""

    def __init__(self, values: list) -> None:
        self._values = list(values)

    def next(self) -> Any:
        return self._values.pop(0) if self._values else _MISSING

    def skip(self, *candidates: str) -> None:
        """Drop the next value if it is one of `candidates`."""
        if self._values and isinstance(self._values[0], str) and self._values[0] in candidates:
            self._values.pop(0)


def _take(
    values: _Values, node: dict, sections: dict, order: dict | None, prefix: str
) -> Iterator[tuple[str, Any]]:
    upload_pending = False
    for name, spec, section in _widgets(node, sections, order, prefix):
        if section == "optional" and upload_pending:  # where old front ends put it; now it comes last
            values.skip(_UPLOAD_VALUE)
            upload_pending = False
        value = values.next()
        if value is _MISSING:
            value = _default(spec)
        if value is not _MISSING:
            yield prefix + name, _wrapped(value)
        options = spec[1] if len(spec) > 1 else {}
        upload_pending = upload_pending or any(options.get(key) for key in _UPLOADS)
        if options.get("control_after_generate", name in _SEEDS):
            values.skip(*_AFTER_GENERATE)
        if spec[0] == _DYNAMIC_COMBO:
            for option in options.get("options", []):
                if option["key"] == value:
                    yield from _take(values, node, option["inputs"], None, f"{prefix}{name}.")


def _widgets(
    node: dict, sections: dict, order: dict | None, prefix: str = ""
) -> Iterator[tuple[str, list, str]]:
    """The inputs that are widgets, as (name, specification, section), in the front end's order."""
    marked = {slot["name"] for slot in node.get("inputs") or [] if slot.get("widget")}
    for section in ("required", "optional"):
        specs = sections.get(section) or {}
        names = (order or {}).get(section) or list(specs)
        for name in names:
            spec = specs[name]
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            options = spec[1] if len(spec) > 1 else {}
            if options.get("forceInput"):
                continue
            if kind in _WIDGET_TYPES or prefix + name in marked:
                yield name, spec, section


def _default(spec: list) -> Any:
    """The value that the front end gives a new widget."""
    options = spec[1] if len(spec) > 1 else {}
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        return choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec[0], _MISSING)


def _wrapped(value: Any) -> Any:
    """A list as a value has to be marked, or the server takes it for a link."""
    return {"__value__": value} if isinstance(value, list) else value


def find(prompt: dict, selector: str) -> list[str]:
    """The ids of the nodes in a prompt (API format) whose class, title or id is `selector`."""
    return [
        node_id
        for node_id, node in prompt.items()
        if selector in (node["class_type"], node_id, (node.get("_meta") or {}).get("title"))
    ]


def find_one(prompt: dict, selector: str) -> str:
    """The id of the only node that `selector` means. Raises WorkflowError for none or several."""
    found = find(prompt, selector)
    if len(found) != 1:
        raise WorkflowError(f"The workflow has {len(found)} nodes for {selector!r} instead of one.")
    return found[0]


def set_inputs(prompt: dict, changes: dict[str, dict[str, Any]]) -> None:
    """Set inputs of nodes in a prompt: {selector: {input name: value}}, for every node the selector means.

    A value may be a link: [node id, output index]. Raises WorkflowError for a selector that means no node and
    for an input that the node does not have.
    """
    for selector, values in changes.items():
        found = find(prompt, selector)
        if not found:
            raise WorkflowError(f"The workflow has no node for {selector!r}.")
        for node_id in found:
            node = prompt[node_id]
            for name, value in values.items():
                if name not in node["inputs"]:
                    raise WorkflowError(f"{node['class_type']} (node {node_id}) has no input {name!r}.")
                node["inputs"][name] = value
