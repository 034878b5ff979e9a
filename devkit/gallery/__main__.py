"""`python -m devkit.gallery`: write the example workflows into workflows/ and the blueprints into subgraphs/."""

from __future__ import annotations

import json

from ..paths import SUBGRAPHS, WORKFLOWS
from ..say import say
from .blueprints import build_blueprints
from .workflows import build_all

for folder, files in ((WORKFLOWS, build_all()), (SUBGRAPHS, build_blueprints())):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"wrote {path}")
