"""Where things lie in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.path.abspath(__file__)).parent.parent
VENV = ROOT / ".venv"
COMFYUI_HOME = ROOT / ".comfyui"
BASE = COMFYUI_HOME / "base"
OUTPUT = ROOT / "output"
ASSETS = ROOT / "assets"
TINY_CHECKPOINT = ASSETS / "tiny" / "tiny-world.safetensors"
TINY_NODE = ROOT / "devkit" / "world" / "comfy_node"
WORKFLOWS = ROOT / "workflows"
SUBGRAPHS = ROOT / "subgraphs"
SHIMS = ROOT / "devkit" / "shims"
