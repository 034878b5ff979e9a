"""Results on disk, one file per case, so that a run takes up where another one ended."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .cases import Cases, Edit, Settings, Source
from .rows import Row

_ROOT = Path(__file__).parents[2]
# What the numbers come from; other files may change without making results stale.
_CODE = {
    "tav_core": (
        "patching", "diffusion/ddim", "diffusion/schedule", "inflation/attach", "inflation/attention",
        "inflation/group_norm", "inflation/layers", "inflation/mode", "inflation/temporal", "pipeline/unet",
        "tuning/lr_scheduler", "tuning/queries", "tuning/settings", "tuning/tuner", "metrics/clip_score",
        "metrics/consistency", "metrics/flow", "metrics/psnr", "metrics/warping",
    ),
    "devkit/world": ("backgrounds", "checkpoint", "clips", "compose", "judge", "models", "styles", "tokens"),
    "benchmarks/edits": ("companions", "lineup", "measure", "model", "rows", "run"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One line of raw results: what is edited into what, how, and with which seed."""

    source: Source
    edit: Edit
    row: Row
    seed: int


def all_cases(cases: Cases, rows: list[Row], limit: int | None = None) -> list[Case]:
    """Every case of a file in the order in which they are run.

    ``limit`` keeps the first so many edits (each with all rows and seeds). Rows of a personalised checkpoint have
    edits of their own, for the sources of which any edit is kept.
    """
    edits = [(source, edit) for source in cases.sources for edit in source.edits][:limit]
    chosen = {id(edit) for _, edit in edits}

    def of(row: Row, source: Source) -> tuple[Edit, ...]:
        kept = tuple(edit for edit in source.edits if id(edit) in chosen)
        return source.personal_edits if row.personalised and kept else kept

    return [
        Case(source, edit, row, seed)
        for source in cases.sources
        for seed in cases.settings.seeds
        for row in rows
        for edit in of(row, source)
    ]


class Store:
    """A folder of results. Each file's name holds a hash of everything its numbers depend on.

    That is the case, the settings, the weights in ``files``, of the ``companions`` (by kind) the one that the row
    needs, and the code of the method and the measures.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        files: list[Path],
        companions: Mapping[str, Path] | None = None,
    ) -> None:
        self.folder = folder
        self._companions = {kind: _digest(file) for kind, file in (companions or {}).items()}
        folder.mkdir(parents=True, exist_ok=True)
        values = dataclasses.asdict(settings)
        del values["seeds"]
        self._base = json.dumps([values, [_digest(file) for file in files], _code_digest()])

    def path(self, case: Case) -> Path:
        """Where the case's result lies or will lie."""
        source = dataclasses.replace(case.source, edits=())
        parts = [dataclasses.asdict(part) for part in (source, case.edit, case.row)]
        if case.row.companion:
            parts.append({case.row.companion: self._companions[case.row.companion]})
        content = json.dumps([self._base, parts, case.seed])
        key = hashlib.sha256(content.encode()).hexdigest()[:12]
        words = re.sub(r"[^a-z0-9]+", "-", case.edit.prompt.lower())[:48].strip("-")
        return self.folder / f"{case.source.id}.{case.row.name}.{words}.{case.seed}.{key}.json"

    def read(self, case: Case) -> dict | None:
        """The result of a case that is done, else None."""
        try:
            return json.loads(self.path(case).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, case: Case, result: dict, frames: Tensor) -> None:
        """Keep a result, and its frames side by side in a PNG beside it."""
        path = self.path(case)
        strip = (frames.clamp(0, 1) * 255).round().byte().numpy()
        Image.fromarray(np.hstack(list(strip))).save(path.with_suffix(".png"))
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    def frames(self, case: Case) -> Tensor:
        """The frames (F, H, W, 3) in 0..1 of a case that is done."""
        with Image.open(self.path(case).with_suffix(".png")) as image:
            strip = np.asarray(image.convert("RGB"))
        height, width = strip.shape[:2]
        count = width // height  # the closed world's pictures are square
        frames = strip.reshape(height, count, height, 3).transpose(1, 0, 2, 3)
        return torch.from_numpy(np.ascontiguousarray(frames)).float() / 255


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _code_digest() -> str:
    files = [_ROOT / folder / f"{name}.py" for folder, names in _CODE.items() for name in names]
    return hashlib.sha256("".join(_digest(file) for file in files).encode()).hexdigest()
