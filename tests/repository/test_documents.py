"""What the documents say about the checkout is so: links, commands, nodes."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from tree import ROOT, files, name

from devkit.commands import COMMANDS

DOCUMENTS = [path for path in files(".md") if "web" not in path.relative_to(ROOT).parts]
HELP = files(".md", under="web/docs")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def links(text: str) -> list[str]:
    """Targets of links and pictures, Markdown's and HTML's; code is left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose)


@pytest.mark.parametrize("path", [*DOCUMENTS, *HELP], ids=name)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in ("".join(pair) for pair in links(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        # The front end looks up what a help page names in web/docs, whatever the page's language.
        base = ROOT / "web" / "docs" if path in HELP else path.parent
        found = (base / unquote(file)).resolve() if file else path
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a document get."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_that_a_document_names_exist(path: Path) -> None:
    named = set(re.findall(r"`(?:python3 )?dev\.py ([a-z][a-z-]*)", path.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS)


def test_developing_lists_every_command() -> None:
    text = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    assert {command for command in COMMANDS if f"`python3 dev.py {command}" not in text} == set()


def test_the_readme_names_every_folder_that_a_developer_meets() -> None:
    text = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    folders = {path.relative_to(ROOT).parts[0] for path in files(".py", ".json", ".js")} - {
        "dev.py",
        "__init__.py",
    }
    assert {folder for folder in folders if f"`{folder}/" not in text} == set()


def test_the_readme_s_table_has_every_node(pack) -> None:
    import asyncio

    extension = pack("nodes").TuneAVideoExtension()
    asyncio.run(extension.on_load())
    names = {node.GET_SCHEMA().display_name for node in asyncio.run(extension.get_node_list())}
    table = " ".join(re.findall(r"^\| (.+?) \|", README, flags=re.MULTILINE))
    assert {each for each in names if each not in table} == set()
