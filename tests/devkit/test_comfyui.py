"""Where ComfyUI comes from, and how it is unpacked."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from devkit import comfyui
from devkit.base import PACK_NAME, link, prepare
from devkit.comfyui import COMFYUI, COMFYUI_PINNED
from devkit.paths import ROOT
from devkit.say import DevError


def make_comfyui(folder: Path, version: str = "9.9.9") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def make_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"hi"))
    return path


def test_comfyui_path_is_used(tmp_path, monkeypatch):
    folder = make_comfyui(tmp_path / "mine")
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    assert comfyui.locate() == folder
    assert comfyui.version_of(folder) == "9.9.9"
    assert not comfyui.is_ours(folder)


def test_comfyui_path_without_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(DevError, match=r"COMFYUI_PATH is .* correct it"):
        comfyui.locate()


def test_checkout_inside_custom_nodes_uses_that_comfyui(tmp_path, monkeypatch):
    folder = make_comfyui(tmp_path / "ComfyUI")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(comfyui, "ROOT", folder / "custom_nodes" / "pack")
    assert comfyui.locate() == folder


def test_unknown_version_is_refused():
    with pytest.raises(DevError, match=r"0\.1\.2 is not in the table"):
        comfyui.fetch("0.1.2")


def test_table_has_the_pinned_version_and_whole_checksums():
    assert COMFYUI_PINNED in COMFYUI
    assert len({source.sha256 for source in COMFYUI.values()}) == len(COMFYUI)
    assert all(len(source.sha256) == 64 for source in COMFYUI.values())


def test_fetch_keeps_only_comfyui_and_checks_the_sum(tmp_path, monkeypatch):
    names = [
        "p-1/vendor/ComfyUI/main.py",
        "p-1/vendor/ComfyUI/comfy/a.py",
        "p-1/setup.py",
        "p-1/vendor/other/b",
    ]
    archive = make_archive(tmp_path / "p-1.tar.gz", names)

    def download(*arguments):
        folder = next(a.removeprefix("--dest=") for a in arguments if a.startswith("--dest="))
        Path(folder, "p-1.tar.gz").write_bytes(archive.read_bytes())

    monkeypatch.setattr(comfyui.uv, "run", download)
    monkeypatch.setattr(comfyui, "COMFYUI_HOME", tmp_path / "home")
    with pytest.raises(DevError, match="checksum"):
        comfyui.fetch(COMFYUI_PINNED)
    assert not (tmp_path / "home" / COMFYUI_PINNED).exists()

    comfyui._extract(archive, tmp_path / "out")
    found = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    assert found == ["comfy/a.py", "main.py"]


@pytest.mark.parametrize("name", ["p-1/vendor/ComfyUI/../../../evil.py", "/p-1/vendor/ComfyUI/evil.py"])
def test_unsafe_names_in_an_archive_never_leave_the_folder(tmp_path, name):
    archive = make_archive(tmp_path / "p-1.tar.gz", [name])
    try:
        comfyui._extract(archive, tmp_path / "deep" / "er" / "out")
    except DevError as error:
        assert "unsafe name" in str(error)
    assert not list(tmp_path.rglob("evil.py"))


def test_base_folder_links_the_pack_and_keeps_what_is_there(tmp_path):
    model = tmp_path / "a.safetensors"
    model.write_bytes(b"1")
    base = prepare(tmp_path / "base", [model])
    assert (base / "custom_nodes" / PACK_NAME / "dev.py").samefile(ROOT / "dev.py")
    (base / "input" / "mine.png").write_bytes(b"2")
    prepare(base, [model])
    assert (base / "input" / "mine.png").read_bytes() == b"2"
    assert (base / "models" / "checkpoints" / "a.safetensors").read_bytes() == b"1"


@pytest.mark.parametrize("allowed", [True, False], ids=["links", "no-links"])
def test_a_link_is_replaced_and_its_source_stays(tmp_path, monkeypatch, allowed):
    def refuse(*arguments, **named):
        raise OSError("not allowed")

    if not allowed:
        monkeypatch.setattr("os.symlink", refuse)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    link(first, tmp_path / "target")
    link(second, tmp_path / "target")
    assert (tmp_path / "target" / "name").read_text() == "second"
    assert (first / "name").read_text() == "first"


def test_the_pack_loads_in_this_process_as_comfyui_loads_it(pack):
    import folder_paths

    import nodes  # ComfyUI's own: the pack's folder of the same name must not hide it

    schema = pack("nodes.tune").TAVTune.define_schema()
    assert schema.node_id == "TAVTune"
    assert pack("nodes.tune") is pack("nodes.tune")
    assert nodes.NODE_CLASS_MAPPINGS["KSampler"]
    assert Path(folder_paths.__file__).parent == comfyui.locate()
