"""`dev.py test-versions`: the pack in every supported ComfyUI, from the oldest to the newest."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import comfyui as comfyui_source
from .base import PACK_NAME
from .materials import put_clip, tiny_checkpoint
from .paths import COMFYUI_HOME, ROOT, WORKFLOWS
from .say import say
from .server import EXACT, Server
from .workflow import find_one, set_inputs, to_api

# The workflow as it is but for the numbers, so that six servers are done in minutes.
_SMALL = {
    "TAVLoadVideo": {"frame_count": 4, "width": 64, "height": 64},
    "TAVTune": {"steps": 4},
    "TAVDDIMInversion": {"steps": 5},
    "TAVSample": {"steps": 5},
}
_TOLERANCE = 1e-3


def main(argv: Sequence[str]) -> int:
    """Run the quickstart workflow on each version and compare; prints one JSON object per version."""
    parser = argparse.ArgumentParser(prog="dev.py test-versions", description=__doc__)
    every = list(comfyui_source.COMFYUI)
    parser.add_argument("versions", nargs="*", default=every, help="ComfyUI versions (default: all)")
    options = parser.parse_args(argv)
    reference, passed = None, 0
    for version in options.versions:
        with tempfile.TemporaryDirectory() as folder:
            frames, report = _run(version, Path(folder))
        if frames is not None:
            reference = frames if reference is None else reference
            report["difference"] = float((frames - reference).norm() / reference.norm())
        ok = frames is not None and not report["warnings"] and report["difference"] <= _TOLERANCE
        passed += ok
        say(json.dumps({"version": version, **report, "ok": ok}))
    say(f"{passed} passed, {len(options.versions) - passed} failed")
    return 0 if passed == len(options.versions) else 1


def _run(version: str, base: Path) -> tuple[torch.Tensor | None, dict]:
    """The edited latents that this version makes, and what is to be reported."""
    checkpoint = tiny_checkpoint(COMFYUI_HOME / "made")
    video = put_clip(base)
    comfyui = comfyui_source.fetch(version)
    with Server(base, comfyui, [checkpoint], EXACT) as server:
        client = server.client()
        info = client.object_info()
        prompt = to_api(json.loads((WORKFLOWS / "quickstart.json").read_text(encoding="utf-8")), info)
        set_inputs(prompt, _SMALL)
        set_inputs(
            prompt,
            {"TAVLoadVideo": {"video": video}, "CheckpointLoaderSimple": {"ckpt_name": checkpoint.name}},
        )
        edited = [find_one(prompt, "TAVSample"), 0]
        prompt["latent"] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": edited, "filename_prefix": "edited"},
        }
        result = client.run(prompt)
        report = {"nodes": sum(name.startswith("TAV") for name in info), "warnings": _warnings(server.log)}
        if not result.ok:
            return None, report | {"error": str(result.error), "difference": None}
        saved = sorted((base / "output").glob("edited_*.latent"))[-1]
        return load_file(saved)["latent_tensor"], report


def _warnings(log: str) -> list[str]:
    """The lines of a server's log that print_error about the pack."""
    ours = (PACK_NAME, "tune_a_video", "Tune-A-Video", str(ROOT / "nodes"), str(ROOT / "tav_core"))
    complaints = ("warn", "error", "IMPORT FAILED", "Traceback")
    return [
        line
        for line in log.splitlines()
        if any(word in line for word in ours) and any(word.lower() in line.lower() for word in complaints)
    ]
