"""What the ComfyUI registry is told and given: pyproject.toml, the icon, and the files that are packed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
from PIL import Image
from tree import ROOT

import tav_core
from devkit.pins import COMFYUI
from devkit.requirements import pack_dependencies, read_requirements

# What a user's ComfyUI needs, and what a user may want to read.
PACKED = {"__init__.py", "nodes", "tav_core", "web", "locales", "workflows", "subgraphs", "docs"}
PACKED |= {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "requirements.txt"}
PACKED_BYTES = 3_000_000
GPUS = {"NVIDIA CUDA", "AMD ROCm", "Intel Arc", "Apple Metal"}
# ComfyUI has these, and which version is its own business.
COMFYUI_S = {"torch", "comfyui-frontend-package"}


@pytest.fixture(scope="module")
def settings() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 reads no TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def packed() -> list[str]:
    """The tracked files that .comfyignore leaves in: what `comfy node pack` packs."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is packed are the tracked files")

    def listed(*options: str) -> set[str]:
        command = ["git", "-c", "core.quotepath=off", "ls-files", "--cached", *options]
        return set(
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        )

    return sorted(listed() - listed("--ignored", "--exclude-from=.comfyignore"))


def test_the_name_fits_the_registry_and_the_version_is_one(settings: dict) -> None:
    project = settings["project"]
    assert re.fullmatch(r"[a-z]([a-z0-9]|[-_.](?=[a-z0-9])){0,98}", project["name"])
    assert "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["version"] == tav_core.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(project['version'])})", changes, re.MULTILINE)


def test_everything_that_the_registry_shows_is_there(settings: dict) -> None:
    project, comfy = settings["project"], settings["tool"]["comfy"]
    assert project["license"] == {"file": "LICENSE"} and len(project["description"]) > 20
    home = project["urls"]["Repository"]
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", home)
    assert all(url.startswith(home) for url in project["urls"].values())
    assert {"Documentation", "Bug Tracker"} <= set(project["urls"])
    assert comfy["PublisherId"] and comfy["DisplayName"] == "Tune-A-Video"
    assert {
        line.removeprefix("Environment :: GPU :: ") for line in project["classifiers"] if "GPU" in line
    } == GPUS
    assert "Operating System :: OS Independent" in project["classifiers"]


def test_the_oldest_comfyui_is_the_oldest_that_is_tested(settings: dict) -> None:
    oldest = min(COMFYUI, key=lambda version: tuple(map(int, version.split("."))))
    assert settings["tool"]["comfy"]["requires-comfyui"] == f">={oldest}"
    assert settings["project"]["requires-python"] == ">=3.10"


def test_no_dependency_fights_comfyui_s() -> None:
    for line in [*pack_dependencies(), *read_requirements(ROOT / "requirements.txt")]:
        assert not re.search(r"[<~]|==", line), f"{line} is pinned, or has an upper limit"
    names = {re.split(r"[<>=!~ ]", line)[0] for line in pack_dependencies()}
    assert names - COMFYUI_S == {
        re.split(r"[<>=!~ ]", line)[0] for line in read_requirements(ROOT / "requirements.txt")
    }


@pytest.mark.parametrize(("key", "proportion", "widest"), [("Icon", 1, 400), ("Banner", 21 / 9, 2100)])
def test_icon_and_banner_have_the_registry_s_shape(
    settings: dict, key: str, proportion: float, widest: int
) -> None:
    path = PurePosixPath(settings["tool"]["comfy"][key].partition("/main/")[2])
    with Image.open(ROOT / path) as picture:
        width, height = picture.size
    assert width / height == pytest.approx(proportion, rel=0.01) and width <= widest
    assert (ROOT / path).with_suffix(".svg").exists(), "the drawing that the picture is made of"


def test_only_what_users_need_is_packed(packed: list[str]) -> None:
    assert {path.partition("/")[0] for path in packed} - PACKED == set()
    assert {"__init__.py", "pyproject.toml", "nodes/__init__.py", "tav_core/__init__.py"} <= set(packed)
    assert not [path for path in packed if path.endswith((".safetensors", ".mp4", ".pt", ".ckpt", ".bin"))]
    there = [ROOT / path for path in packed if (ROOT / path).exists()]
    assert sum(path.stat().st_size for path in there) < PACKED_BYTES


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python before 3.11 reads no TOML")
def test_the_settings_of_the_tools_are_there(settings: dict) -> None:
    rules = set(settings["tool"]["ruff"]["lint"]["select"])
    assert {"S", "N", "D", "T", "E", "W", "F"} <= rules
    assert settings["tool"]["mypy"]["strict"] is True and settings["tool"]["mypy"]["files"] == ["tav_core"]
