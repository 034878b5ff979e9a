"""`dev.py locale`: writes locales/en/nodeDefs.json, the English names and tooltips, from the nodes' schemas."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import comfyui, inprocess
from .paths import ROOT
from .say import say

ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"


def main(argv: Sequence[str]) -> int:
    """Write the file. Returns the exit code."""
    argparse.ArgumentParser(prog="dev.py locale", description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        inprocess.start(comfyui.locate(), Path(folder))
        text = json.dumps(english(schemas()), indent=2, ensure_ascii=False)
    ENGLISH.write_text(text + "\n", encoding="utf-8")
    say(f"wrote {ENGLISH}; the other languages in {ENGLISH.parents[1]} follow by hand")
    return 0


def schemas() -> list[Any]:
    """The schema of every node; `inprocess.start` must have been called."""
    extension = inprocess.pack("nodes").TuneAVideoExtension()
    asyncio.run(extension.on_load())
    return [node.GET_SCHEMA() for node in asyncio.run(extension.get_node_list())]


def english(schemas: Sequence[Any]) -> dict[str, dict]:
    """What the front end looks up, by node: inputs by name with "_" for ".", outputs by number."""
    return {schema.node_id: _node(schema) for schema in schemas}


def _node(schema: Any) -> dict:
    inputs = {}
    for entry in schema.inputs:
        inputs[entry.id] = {"name": entry.id, "tooltip": entry.tooltip}
        template = getattr(entry, "template", None)
        if template is not None:
            tooltip = template.input.tooltip
            inputs |= {f"{entry.id}_{name}": {"name": name, "tooltip": tooltip} for name in template.names}
    outputs = {
        str(number): {"name": entry.display_name or entry.get_io_type(), "tooltip": entry.tooltip}
        for number, entry in enumerate(schema.outputs)
    }
    about = {"display_name": schema.display_name, "description": schema.description, "inputs": inputs}
    return about | ({"outputs": outputs} if outputs else {})
