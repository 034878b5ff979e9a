"""`dev.py bench edits`: how well edits work."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from benchmarks.options import some_of, write
from devkit.paths import ASSETS, OUTPUT, TINY_CHECKPOINT
from devkit.say import DevError, say
from tav_core.settings import settings_of
from tav_core.tuning.settings import TuningSettings

from . import table
from .bench import Plan, run_cases
from .cases import DEVELOPMENT, SHIPPED, CasesError, Settings, load_cases
from .rows import DEFAULT, ROWS
from .sheet import write_sheets

_JUDGE = ASSETS / "tiny" / "judge.safetensors"


def main(argv: Sequence[str]) -> int:
    """Edit the clips of a cases file with each row of the table and print what the judge found."""
    options = _parse(argv)
    path = DEVELOPMENT if options.dev else options.cases or SHIPPED
    try:
        cases = load_cases(path, dict(options.set))
    except CasesError as error:
        raise DevError(str(error)) from error
    rows = [ROWS[name] for name in ROWS if name in (options.rows or DEFAULT)]
    needed = {row.companion for row in rows if row.companion}
    companions = {kind: getattr(options, kind) for kind in sorted(needed)}
    for file in (options.checkpoint, options.judge, *companions.values()):
        if not file.is_file():
            raise DevError(f"There is no file {file}: train it first, or name another one.")
    folder = options.work or OUTPUT / "bench" / "edits" / cases.name
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    plan = Plan(
        cases,
        rows,
        options.checkpoint,
        options.judge,
        folder,
        options.limit,
        options.clip,
        device,
        companions,
    )
    results = run_cases(plan, say)
    found = table.summary(results)
    say("\n" + table.terminal(found))
    if options.sheets:
        say(f"wrote {len(write_sheets(plan, options.sheets))} pictures into {options.sheets}")
    if options.json:
        report = {"cases": cases.name, "settings": asdict(cases.settings), "device": device}
        report |= {"rows": found, "results": results}
        write(options.json, json.dumps(report, indent=1) + "\n")
    if options.markdown:
        # Where the tables go is no part of what makes them.
        shown = [word for word in argv if word not in ("--markdown", str(options.markdown))]
        write(
            options.markdown,
            table.markdown(found, shlex.join(["python3", "dev.py", "bench", "edits", *shown])),
        )
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py bench edits",
        description="Tune on clips, edit them, and measure what became of them. Cases that are done are kept.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--cases", type=Path, metavar="FILE.json", help="default: the shipped 8 clips, 32 edits"
    )
    which.add_argument(
        "--dev", action="store_true", help="the development clips, on which settings are tuned"
    )
    parser.add_argument(
        "--rows", type=some_of(ROWS), metavar="A,B",
        help=f"some of: {', '.join(ROWS)}; default: those that need no ControlNet or DreamBooth file",
    )  # fmt: skip
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N edits")
    parser.add_argument(
        "--set", action="append", type=_setting(Settings), default=[], metavar="NAME=VALUE",
        help="change a setting of the cases file (repeatable), e.g. cfg=7 or tuning.steps=500",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables for the README there")
    parser.add_argument(
        "--sheets", type=Path, metavar="FOLDER", help="write a contact sheet of each edit there"
    )
    parser.add_argument("--clip", type=_folder, metavar="FOLDER", help="also measure with this CLIP model")
    parser.add_argument("--checkpoint", type=Path, default=TINY_CHECKPOINT, metavar="FILE")
    parser.add_argument("--judge", type=Path, default=_JUDGE, metavar="FILE")
    for kind, what in (
        ("controlnet", "ControlNet with masks as hints"),
        ("dreambooth", "changes to the checkpoint"),
    ):
        file = TINY_CHECKPOINT.with_name(f"{TINY_CHECKPOINT.stem}-{kind}.safetensors")
        parser.add_argument(
            f"--{kind}", type=Path, default=file, metavar="FILE", help=f"{what}, for the rows that need one"
        )
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="results and pictures, kept between runs")
    parser.add_argument("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    return parser.parse_args(argv)


def _setting(settings: type) -> Callable[[str], tuple[str, object]]:
    names = [field.name for field in fields(settings)] + [
        f"tuning.{name}" for name in settings_of(TuningSettings)
    ]

    def parse(text: str) -> tuple[str, object]:
        name, _, value = text.partition("=")
        if name not in names:
            raise argparse.ArgumentTypeError(f"unknown setting {name!r}; known: {', '.join(names)}")
        try:
            return name, json.loads(value)
        except ValueError:
            return name, value

    return parse


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
