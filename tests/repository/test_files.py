"""What every file of the checkout keeps to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tree import ROOT, files, name

MOST_LINES = 600
"""Of a source file; high enough that nobody splits a concept for it."""

TEXT = (".py", ".js", ".css", ".md", ".json", ".toml", ".yml", ".txt", ".cff", ".ini", ".svg")
# Folders of somebody's machine. Taken apart, so that this file is none of the finds.
_HOMES = ("ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk")
MACHINE = re.compile(rf"(?<![\w.])/(?:{'|'.join(_HOMES)})/\w|[A-Z]:\\+{_HOMES[1]}")
PUBLISHED = ("nodes", "tav_core", "web")


@pytest.mark.parametrize("path", files(".py", ".js", ".css"), ids=name)
def test_source_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: one concept per file"


def test_nothing_names_a_folder_of_somebody_s_machine() -> None:
    found = {}
    for path in files(*TEXT):
        match = MACHINE.search(path.read_text(encoding="utf-8"))
        if match:
            found[name(path)] = match[0]
    assert found == {}


def test_text_files_are_utf8_and_end_with_one_line_break() -> None:
    wrong = []
    for path in files(*TEXT):
        content = path.read_bytes()
        content.decode("utf-8")
        if content and (not content.endswith(b"\n") or content.endswith(b"\n\n") or b"\r" in content):
            wrong.append(name(path))
    assert wrong == []


def test_json_files_can_be_read() -> None:
    for path in files(".json"):
        json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", PUBLISHED)
def test_javascript_and_python_leave_no_messages_behind(folder: str) -> None:
    """Python's prints are ruff's business (T20); this is about the page's console."""
    for path in files(".js", under=folder):
        assert not re.search(r"\bconsole\.(log|debug|info)\b", path.read_text(encoding="utf-8")), name(path)


def test_the_readme_s_pictures_are_small() -> None:
    for path in files(".png", ".jpg", ".webp", ".gif", under="docs"):
        assert path.stat().st_size < 1_000_000, f"{name(path)} has {path.stat().st_size} bytes"


def test_the_ignored_folders_are_really_left_out() -> None:
    assert not [path for path in files(".py") if ".venv" in path.parts or ".comfyui" in path.parts]
    assert ROOT / "dev.py" in files(".py")
