"""What the ComfyUI registry and pip are told and given: pyproject.toml, the icon, the pack's files, the wheel."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from tree import ROOT, files

import tav_core
from devkit import uv, venv
from devkit.comfyui import COMFYUI
from devkit.paths import SHIMS

# What a user's ComfyUI needs, and what a user may want to read.
PACKED = {"__init__.py", "nodes", "tav_core", "web", "locales", "workflows", "subgraphs", "docs"}
PACKED |= {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "requirements.txt"}
PACKED_BYTES = 3_000_000
GPUS = {"NVIDIA CUDA", "AMD ROCm", "Intel Arc", "Apple Metal"}


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


def test_the_name_fits_the_registry_and_the_version_has_one_source(settings: dict) -> None:
    from devkit import release

    project = settings["project"]
    assert re.fullmatch(r"[a-z]([a-z0-9]|[-_.](?=[a-z0-9])){0,98}", project["name"])
    assert "comfyui" not in project["name"]
    assert "version" not in project and project["dynamic"] == ["version"]
    # setuptools, ComfyUI's registry and the release check all read this one line
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tav_core.__version__"}
    assert settings["tool"]["comfy"]["version"] == {"path": "tav_core/__init__.py"}
    assert release.version() == tav_core.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", tav_core.__version__)


def test_everything_that_the_registry_shows_is_there(settings: dict) -> None:
    project, comfy = settings["project"], settings["tool"]["comfy"]
    assert project["license"] == "Apache-2.0" and len(project["description"]) > 20
    assert comfy["DisplayName"] == "Tune-A-Video"
    assert {
        line.removeprefix("Environment :: GPU :: ") for line in project["classifiers"] if "GPU" in line
    } == GPUS
    assert "Operating System :: OS Independent" in project["classifiers"]


def test_the_release_check_names_what_is_missing(settings: dict, tmp_path: Path) -> None:
    """In a copy without addresses, and in one that is ready."""
    from devkit import release

    (tmp_path / "tav_core").mkdir()
    for name in ("CITATION.cff", "CHANGELOG.md", "tav_core/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.comfy]\n')
    said = " ".join(release.missing(root=tmp_path))
    assert {
        name for names in release.ADDRESSES.values() for name in names if f" {name}." not in said
    } == set()
    home, version = "https://github.com/owner/pack", release.version()
    (tmp_path / "pyproject.toml").write_text(
        "".join(
            f"[{table}]\n" + "".join(f'{name} = "{home}"\n' for name in names)
            for table, names in release.ADDRESSES.items()
        )
    )
    (tmp_path / "CITATION.cff").write_text(f"title: x\nversion: {version}\nrepository-code: {home}\n")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {version}\n")
    assert release.missing(f"v{version}", "owner/pack", tmp_path) == []
    assert release.missing("v9.9.9", "owner/other", tmp_path) == [
        f"pyproject.toml: the Repository is {home}, but this is owner/other.",
        f"The tag is v9.9.9, but the version is {version}.",
    ]


def test_the_versions_of_citation_and_package_agree() -> None:
    assert f"\nversion: {tav_core.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(tav_core.__version__)})", changes, re.MULTILINE)


def test_the_oldest_comfyui_is_the_oldest_that_is_tested(settings: dict) -> None:
    oldest = min(COMFYUI, key=lambda version: tuple(map(int, version.split("."))))
    assert settings["tool"]["comfy"]["requires-comfyui"] == f">={oldest}"
    assert settings["project"]["requires-python"] == ">=3.10"


def test_no_dependency_fights_comfyui_s(settings: dict) -> None:
    declared = settings["project"]["dependencies"]
    installed = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    for line in [*declared, *installed]:
        assert re.fullmatch(r"[a-z-]+(>=[\d.]+)?", line), f"{line} is pinned, or has an upper limit"
    # ComfyUI has torch and numpy, and which version is its own business.
    assert set(declared) - {"torch", "numpy"} == set(installed)


@pytest.mark.parametrize(("name", "proportion", "widest"), [("icon", 1, 400), ("banner", 21 / 9, 2100)])
def test_icon_and_banner_have_the_registry_s_shape(name: str, proportion: float, widest: int) -> None:
    path = ROOT / "docs" / "images" / f"{name}.png"
    with Image.open(path) as picture:
        width, height = picture.size
    assert width / height == pytest.approx(proportion, rel=0.01) and width <= widest
    assert path.with_suffix(".svg").exists(), "the drawing that the picture is made of"


def test_only_what_users_need_is_packed(packed: list[str]) -> None:
    assert {path.partition("/")[0] for path in packed} - PACKED == set()
    assert {"__init__.py", "pyproject.toml", "nodes/__init__.py", "tav_core/__init__.py"} <= set(packed)
    assert not [path for path in packed if path.endswith((".safetensors", ".mp4", ".pt", ".ckpt", ".bin"))]
    there = [ROOT / path for path in packed if (ROOT / path).exists()]
    assert sum(path.stat().st_size for path in there) < PACKED_BYTES


def test_nothing_that_is_published_needs_the_development_data(packed: list[str]) -> None:
    named = [
        path
        for path in packed
        if path.endswith((".py", ".js", ".json"))
        and "assets/" in (ROOT / path).read_text(encoding="utf-8").replace("\\", "/")
    ]
    assert named == []


@pytest.mark.skipif(bool(os.environ.get("DEV_PYTHON")), reason="DEV_PYTHON's environment is used as it is")
def test_the_wheel_holds_the_library_and_its_command_starts(tmp_path: Path) -> None:
    """`pip install .`, in an environment of its own; what the library needs lies in this one."""
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tav_core", source / "tav_core", ignore=skipped)
    shutil.copytree(ROOT / "nodes", source / "nodes", ignore=skipped)  # as in a checkout; does not belong in
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    uv.run("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"tune_a_video-{tav_core.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    expected = {path.relative_to(ROOT).as_posix() for path in files(".py", ".typed", under="tav_core")}
    assert set(names) == expected

    uv.run("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    python = venv.python_path(tmp_path / "venv")
    uv.run("pip", "install", "--quiet", "--no-deps", "--python", str(python), str(wheel))
    needed = [str(SHIMS), *site.getsitepackages()]
    helped = subprocess.run(
        [python.with_name("tune-a-video" + python.suffix), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(needed)},
        capture_output=True,
        text=True,
    )
    assert helped.returncode == 0 and "edit" in helped.stdout, helped.stderr


def test_the_settings_of_the_tools_are_there(settings: dict) -> None:
    rules = set(settings["tool"]["ruff"]["lint"]["select"])
    assert {"S", "N", "D", "T", "E", "W", "F"} <= rules
    assert settings["tool"]["mypy"]["strict"] is True and settings["tool"]["mypy"]["files"] == ["tav_core"]
