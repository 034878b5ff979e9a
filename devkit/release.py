"""`python -m devkit.release [TAG REPOSITORY]`: what is missing before the pack can be published.

The publish workflow runs it, on a Python that has tomllib and nothing else, with the tag and the repository's name on
GitHub (owner/name). Addresses that do not exist yet are in no file; this names every place that wants one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import tomllib

from .paths import ROOT
from .say import print_error, say

ADDRESSES = {
    "project.urls": ("Repository", "Documentation", "Issues"),
    "tool.comfy": ("PublisherId", "Icon", "Banner"),
}
"""Tables of pyproject.toml, and what the registry shows or asks for in each."""


def version(root: Path = ROOT) -> str:
    """The version, whose one source is `tav_core/__init__.py`."""
    text = (root / "tav_core" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def missing(tag: str | None = None, repository: str | None = None, root: Path = ROOT) -> list[str]:
    """One sentence for everything that must be filled in, or corrected, before `tag` can be published."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    tables = {"project.urls": settings["project"].get("urls", {}), "tool.comfy": settings["tool"]["comfy"]}
    found = [
        f"pyproject.toml: [{table}] has no {name}."
        for table, names in ADDRESSES.items()
        for name in names
        if not tables[table].get(name)
    ]
    home = tables["project.urls"].get("Repository", "")
    if home and repository and not home.endswith(f"/{repository}"):
        found.append(f"pyproject.toml: the Repository is {home}, but this is {repository}.")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if not re.search(r"^repository-code: ", citation, re.MULTILINE):
        found.append("CITATION.cff: there is no repository-code.")
    here = version(root)
    if f"\nversion: {here}\n" not in citation:
        found.append(f"CITATION.cff: the version is not {here}.")
    if f"\n## {here}" not in (root / "CHANGELOG.md").read_text(encoding="utf-8"):
        found.append(f"CHANGELOG.md: there is no heading for version {here}.")
    if tag is not None and tag != f"v{here}":
        found.append(f"The tag is {tag}, but the version is {here}.")
    return found


def main(argv: Sequence[str]) -> int:
    """Print what is missing. Returns 1 if anything is."""
    found = missing(*argv[:2])
    for line in found:
        print_error(line)
    if not found:
        say("Nothing is missing.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
