"""`dev.py parity DIR`: our arithmetic against numbers of the official implementation, on both hosts."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import comfyui as comfyui_source
from .. import inprocess
from .checks import Check, all_checks
from .reference import Reference

HOSTS = ("diffusers", "comfyui")


def main(argv: Sequence[str]) -> int:
    """Print one JSON object per check; the exit code is 0 if all are within their limits."""
    parser = argparse.ArgumentParser(
        prog="dev.py parity",
        description="Compare with reference numbers of the official implementation, one JSON object per check.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of reference numbers")
    parser.add_argument("--host", choices=HOSTS, action="append", help="only this host (default: both)")
    options = parser.parse_args(argv)
    failed = 0
    with tempfile.TemporaryDirectory() as base:
        for host in options.host or HOSTS:
            try:
                for check in run(options.folder, host, Path(base)):
                    _print(check.to_json())
                    failed += not check.ok
            except (OSError, KeyError, ValueError) as error:
                _print(
                    {"host": host, "check": "read", "ok": False, "note": f"{type(error).__name__}: {error}"}
                )
                failed += 1
    return 1 if failed else 0


def _print(entry: dict) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


def run(folder: Path, host: str, base: Path) -> list[Check]:
    """All checks of `folder` on one of HOSTS, as an iterator; `base` is a folder ComfyUI may write to."""
    reference = Reference(folder)
    if host == "diffusers":
        from .diffusers_side import DiffusersSide  # imports diffusers

        return all_checks(reference, DiffusersSide(reference))
    inprocess.start(comfyui_source.locate(), base)
    from .comfy_side import ComfySide  # imports ComfyUI, which had to be started first

    return all_checks(reference, ComfySide(reference))
