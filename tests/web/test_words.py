"""Help pages and locales: complete in every language, and about the nodes as they are."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from devkit.locale import english
from devkit.locale import schemas as read_schemas
from devkit.world.settings import CLIP, INVERSION, SAMPLING, TUNING
from tav_core.diffusion.settings import Inversion, Sampling
from tav_core.settings import defaults_of
from tav_core.tuning.settings import TuningSettings
from tav_core.video.settings import FrameSelection

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"
LANGUAGES = ("en", "zh", "ja", "ko")
# Every page has the same parts, in its language: use, inputs, outputs, mistakes, example.
HEADINGS = {
    "en": ("When to use it", "Inputs", "Outputs", "Common mistakes", "Example"),
    "zh": ("何时使用", "输入", "输出", "常见错误", "示例"),
    "ja": ("使いどころ", "入力", "出力", "よくある間違い", "例"),
    "ko": ("언제 쓰나요", "입력", "출력", "흔한 실수", "예"),
}
# Letters that only a page in that language has.
SCRIPTS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7a3]"}
# What vue-i18n, which the front end translates with, takes for a placeholder, a plural or a link.
RESERVED = set("{}|@$")


@pytest.fixture(scope="module")
def schemas(pack) -> dict:
    return {schema.node_id: schema for schema in read_schemas()}


def page(node_id: str, language: str) -> Path:
    return DOCS / f"{node_id}.md" if language == "en" else DOCS / node_id / f"{language}.md"


def locale(language: str, name: str) -> dict:
    return json.loads(
        (LOCALES / language / name).read_text(encoding="utf-8"), object_pairs_hook=without_twins
    )


def without_twins(pairs: list[tuple[str, object]]) -> dict:
    assert len(dict(pairs)) == len(pairs), f"a key stands twice among {[key for key, _ in pairs]}"
    return dict(pairs)


def keys(value: object) -> object:
    return {name: keys(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def texts(value: object) -> list[str]:
    return [text for inner in value.values() for text in texts(inner)] if isinstance(value, dict) else [value]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page_that_names_every_input_and_output(schemas: dict, language: str) -> None:
    for node_id, schema in schemas.items():
        text = page(node_id, language).read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == list(HEADINGS[language][:3]), node_id
        for heading in HEADINGS[language]:
            assert f"\n## {heading}\n" in text, f"{node_id} has no part {heading!r}"
        inputs, outputs = sections(text)[1:3]
        for entry in schema.inputs:
            assert f"**{entry.id}**" in inputs, f"{node_id} ({language}) does not explain {entry.id}"
        for entry in schema.outputs:
            name = entry.display_name or entry.get_io_type()
            assert f"**{name}**" in outputs, f"{node_id} ({language}) does not explain the output {name}"
        known = {entry.id for entry in schema.inputs}
        assert set(re.findall(r"\*\*(\w+)\*\*", inputs)) <= known, f"{node_id} ({language}) explains too much"


def sections(text: str) -> list[str]:
    """The text under each `##` heading."""
    return re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_name_the_choices_of_a_node(schemas: dict, language: str) -> None:
    for node_id, schema in schemas.items():
        inputs = sections(page(node_id, language).read_text(encoding="utf-8"))[1]
        for entry in schema.inputs:
            if entry.get_io_type() != "COMBO" or entry.id in ("video", "file", "folder", "clip_model"):
                continue  # files of this machine
            for option in entry.options:
                assert f"`{option}`" in inputs, (
                    f"{node_id} ({language}) does not explain {entry.id} {option!r}"
                )


def test_no_help_page_is_left_over(schemas: dict) -> None:
    expected = {page(node_id, language) for node_id in schemas for language in LANGUAGES}
    assert set(DOCS.rglob("*.md")) == expected


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_help_pages_are_translated_and_as_long_as_the_english_ones(schemas: dict, language: str) -> None:
    for node_id in schemas:
        english, other = (page(node_id, name).read_text(encoding="utf-8") for name in ("en", language))
        assert len(re.findall(SCRIPTS[language], other)) > 200, f"{node_id} is not in {language}"
        for number, (ours, theirs) in enumerate(zip(sections(english), sections(other), strict=True)):
            items = [len(re.findall(r"^\s*- ", part, re.MULTILINE)) for part in (ours, theirs)]
            assert items[0] == items[1], f"{node_id} ({language}), part {number + 1}"


def test_the_english_locale_says_what_the_nodes_say(schemas: dict) -> None:
    """Where this fails, a node's words were changed: run `dev.py locale` and follow in the other languages."""
    assert locale("en", "nodeDefs.json") == english(schemas.values())


@pytest.mark.parametrize("name", ["main.json", "nodeDefs.json"])
def test_all_languages_have_the_same_keys_and_texts_the_front_end_can_show(name: str) -> None:
    english = locale("en", name)
    for language in LANGUAGES:
        words = locale(language, name)
        assert keys(words) == keys(english), language
        for text in texts(words):
            assert isinstance(text, str) and text.strip() == text and text, f"{language}: {text!r}"
            assert not RESERVED & set(text), f"{language}: {text!r}"


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_locales_are_translated(language: str) -> None:
    english, other = locale("en", "nodeDefs.json"), locale(language, "nodeDefs.json")
    for node_id, entry in other.items():
        for kind in ("inputs", "outputs"):
            for name, words in entry.get(kind, {}).items():
                assert words["tooltip"] != english[node_id][kind][name]["tooltip"], f"{node_id}.{name}"
                assert re.search(SCRIPTS[language], words["tooltip"]), f"{node_id}.{name}"
        assert re.search(SCRIPTS[language], entry["description"]), node_id


def test_the_settings_guide_states_the_defaults(schemas: dict) -> None:
    guide = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| ([\w, ]+) \| (.+) \|$", guide.split("\n## ")[1], re.MULTILINE)
    compared = 0
    for names, nodes, value in rows:
        for schema in schemas.values():
            for entry in schema.inputs:
                # How many frames to skip depends on the clip's rate.
                if (
                    schema.display_name in nodes
                    and entry.id in names.split(", ")
                    and entry.id != "frame_stride"
                ):
                    assert plain(entry.default) in value, f"{schema.node_id}.{entry.id}"
                    compared += 1
    assert compared >= 14


def plain(value: object) -> str:
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def test_the_readme_states_what_suits_both_checkpoints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Settings that matter")[1]
    rows = {
        name: (full, small)
        for name, full, small in re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    }
    settings = {
        "frames": (FrameSelection().frame_count, CLIP.frame_count),
        "size": (FrameSelection().width, CLIP.width),
        "tuning steps": (TuningSettings().steps, TUNING.steps),
        "inversion and sampling steps": (Sampling().steps, SAMPLING.steps),
        "strength of the inversion": (Inversion().strength, INVERSION.strength),
        "cfg": (Sampling().cfg, SAMPLING.cfg),
    }
    tuning = {name: (value, getattr(TUNING, name)) for name, value in defaults_of(TuningSettings).items()}
    settings |= {name: values for name, values in tuning.items() if name != "steps" and name in rows}
    assert len(settings) == len(rows) - 2, "a row that is not compared"
    for name, values in settings.items():
        for value, cell in zip(values, rows[name], strict=True):
            assert plain(value) in cell, name


def test_categories_and_types_have_names(schemas: dict) -> None:
    main = locale("en", "main.json")
    categories = {schema.category.split("/")[0] for schema in schemas.values()}
    assert categories == set(main["nodeCategories"])
    types = {
        entry.get_io_type() for schema in schemas.values() for entry in [*schema.inputs, *schema.outputs]
    }
    assert {name for name in types if name.startswith("TAV_")} == set(main["dataTypes"])


def test_the_pack_says_where_its_pages_are(pack) -> None:
    root = sys.modules[pack("nodes").__name__.rpartition(".")[0]]
    assert (ROOT / root.WEB_DIRECTORY / "docs").resolve() == DOCS.resolve()
    assert "WEB_DIRECTORY" in root.__all__


def test_a_real_server_hands_out_pages_and_locales(schemas: dict, client) -> None:
    """Under the addresses that the front end asks for; in English it falls back to the page without a language."""
    translations = requests.get(f"{client.url}/i18n", timeout=60).json()
    module = client.object_info("TAVTune")["TAVTune"]["python_module"]
    pages = f"{client.url}/extensions/{module.removeprefix('custom_nodes.')}/docs"
    for language in LANGUAGES:
        for node_id in schemas:
            definition = locale(language, "nodeDefs.json")[node_id]
            assert translations[language]["nodeDefs"][node_id] == definition, node_id
            name = node_id if language == "en" else f"{node_id}/{language}"
            answer = requests.get(f"{pages}/{name}.md", timeout=60)
            assert answer.ok and "text/html" not in answer.headers.get("content-type", ""), name
            assert answer.content == page(node_id, language).read_bytes()
