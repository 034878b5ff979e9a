"""A real browser for the tests and the screenshots: Chromium of the system, driven by Playwright.

Neither is needed for anything else. Chromium comes from the system; on Debian and Ubuntu, where we may, it is
installed. Playwright goes into a folder of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from . import venv
from .lock import locked
from .paths import COMFYUI_HOME
from .pins import BROWSER_DRIVER
from .say import DevError, say

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_INSTALL_SECONDS = 900
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")


class NoBrowserError(DevError):
    """There is no browser and none can be had here; the message says why."""


def executable() -> Path:
    """The Chromium of this machine, installed from Debian's packages if need be.

    `BROWSER_PATH` names another one. Raises NoBrowserError with the reason.
    """
    chosen = os.environ.get("BROWSER_PATH")
    if chosen:
        if not Path(chosen).is_file():
            raise NoBrowserError(f"BROWSER_PATH names {chosen}, which is no file.")
        return Path(chosen)
    found = _found()
    if found is None:
        _install_chromium()
        found = _found()
    if found is None:
        raise NoBrowserError("Chromium was installed but cannot be found.")
    return found


def playwright() -> ModuleType:
    """The module playwright.sync_api, installed beside ComfyUI if need be. Raises NoBrowserError with the reason."""
    if importlib.util.find_spec("playwright") is None:
        _install_driver()
    return importlib.import_module("playwright.sync_api")


def _found() -> Path | None:
    return next((Path(path) for name in _NAMES if (path := shutil.which(name))), None)


def _install_chromium() -> None:
    apt = shutil.which("apt-get")
    if apt is None:
        raise NoBrowserError("There is no Chromium on this machine, and no apt-get to install it with.")
    if os.geteuid() != 0:
        raise NoBrowserError(
            "There is no Chromium on this machine; installing it needs root: apt-get install chromium."
        )
    say("Installing Chromium from the system's packages, for the browser tests.")
    log = COMFYUI_HOME / "browser.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with locked(COMFYUI_HOME / "set-up.lock"), open(log, "ab") as output:
        for arguments in (
            ("update",),
            ("install", "-y", "--no-install-recommends", "chromium", "fonts-noto-cjk"),
        ):
            try:
                done = subprocess.run(
                    [apt, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=quiet,
                    timeout=_INSTALL_SECONDS,
                )
            except subprocess.TimeoutExpired:
                raise NoBrowserError(f"apt-get {arguments[0]} took too long; see {log}.") from None
            if done.returncode:
                raise NoBrowserError(f"apt-get {arguments[0]} failed; see {log}.")


def _install_driver() -> None:
    if os.environ.get("DEV_PYTHON"):
        raise NoBrowserError("The environment in DEV_PYTHON, which is used as it is, lacks playwright.")
    folder = (
        COMFYUI_HOME
        / "browser"
        / f"{BROWSER_DRIVER.rpartition('=')[2]}-{sys.version_info[0]}{sys.version_info[1]}"
    )
    done = folder / "complete"
    with locked(COMFYUI_HOME / "set-up.lock"):
        if not done.exists():
            say("Installing Playwright, for the browser tests.")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                venv.pip(["install", f"--target={folder}", BROWSER_DRIVER], log=COMFYUI_HOME / "browser.log")
            except DevError as error:
                raise NoBrowserError(f"Playwright cannot be installed here: {error}") from error
            done.touch()
    # Behind everything else: what both have is the environment's.
    sys.path.append(str(folder))
    importlib.invalidate_caches()
