"""Contact sheets, to look at what the numbers say."""

from __future__ import annotations

import itertools
from pathlib import Path

from PIL import Image

from devkit.world.clips import render_clip
from tav_core.video.grid import contact_sheet

from .bench import Plan, open_store
from .model import as_frames
from .store import all_cases

_COLUMNS = 8


def write_sheets(plan: Plan, folder: Path) -> list[Path]:
    """One picture per edit and seed, of cases that are done: the source above, then what each row made of it."""
    store = open_store(plan)
    folder.mkdir(parents=True, exist_ok=True)
    frames = plan.cases.settings.frames
    files = []

    def edit(case):
        return case.source.id, case.seed, case.edit.prompt

    cases = sorted(all_cases(plan.cases, plan.rows, plan.limit), key=edit)
    for (source_id, seed, prompt), group in itertools.groupby(cases, key=edit):
        made = list(group)
        source = made[0].source
        videos = [(f"{source.prompt} (source)", as_frames(render_clip(source.plan(frames)).frames))]
        videos += [(f"{prompt} ({case.row.title})", store.frames(case)) for case in made]
        sheet = (contact_sheet(videos, _COLUMNS) * 255).round().byte().numpy()
        files.append(folder / f"{source_id}-{made[0].edit.kind}-{seed}.png")
        Image.fromarray(sheet).save(files[-1])
    return files
