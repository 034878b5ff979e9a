"""A real browser for the tests and the screenshots: Chromium of the system, driven by Playwright.

Neither is needed for anything else. Playwright is installed when it is first used; Chromium is the system's.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

from . import venv
from .say import DevError, say

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PACKAGES = ("chromium", "fonts-noto-cjk")
_INSTALL_SECONDS = 900
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")


class NoBrowserError(DevError):
    """There is no browser here, or nothing to drive it with; the message says what to do."""


def executable() -> Path:
    """The Chromium of this machine, or the browser that `BROWSER_PATH` names.

    Where the variable `CI` is set, a missing one is installed. Raises NoBrowserError if there is none.
    """
    chosen = os.environ.get("BROWSER_PATH")
    if chosen:
        if not Path(chosen).is_file():
            raise NoBrowserError(f"BROWSER_PATH names {chosen}, which is not a file.")
        return Path(chosen)
    if _found() is None and os.environ.get("CI"):
        install()
    found = _found()
    if found is None:
        raise NoBrowserError(
            f"There is no Chromium on this machine: install it (Debian and Ubuntu: apt-get install "
            f"{' '.join(_PACKAGES)}, or dev.py test --install-browser), or name a browser in BROWSER_PATH."
        )
    return found


def install() -> None:
    """Install Chromium with apt-get unless there is one. Raises NoBrowserError where that is not possible."""
    if _found() is not None:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise NoBrowserError("There is no Chromium on this machine; installing it takes apt-get and root.")
    say("Installing Chromium from the system's packages, for the browser tests.")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", *_PACKAGES)):
        try:
            done = subprocess.run(
                [apt, "-qq", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=quiet,
                timeout=_INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise NoBrowserError(f"apt-get {arguments[0]} took too long.") from None
        if done.returncode:
            raise NoBrowserError(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def playwright() -> ModuleType:
    """The module playwright.sync_api, installed if need be. Raises NoBrowserError with the reason."""
    if importlib.util.find_spec("playwright") is None:
        try:
            venv.add("browser")
        except DevError as error:
            raise NoBrowserError(f"Playwright cannot be installed here: {error}") from error
        importlib.invalidate_caches()
    return importlib.import_module("playwright.sync_api")


def _found() -> Path | None:
    return next((Path(path) for name in _NAMES if (path := shutil.which(name))), None)
