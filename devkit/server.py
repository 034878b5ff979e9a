"""A real ComfyUI server in a process of its own."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import requests

from . import base as base_folder
from . import comfyui as comfyui_source
from . import second_device, venv
from .client import Client
from .device import has_gpu
from .paths import BASE, COMFYUI_HOME, SHIMS
from .say import DevError

READY_SECONDS = 240.0
EXACT = ("--force-fp32",)
"""Arguments for a server whose results are compared: models compute in float32 on a GPU too."""
_STOP_SECONDS = 15.0
_TAIL_CHARACTERS = 4000


class ServerError(DevError):
    """The server did not start; the message holds the end of its log."""


class Server:
    """One ComfyUI server on a free port of 127.0.0.1; a context manager.

        with Server() as server:
            result = server.client().run(prompt)

    base: the folder it works in (see devkit.base); comfyui: the ComfyUI folder (default: the one dev.py
    uses); checkpoints: files linked into models/checkpoints; arguments: more command-line arguments for
    ComfyUI; port: 0 for any free one; variables: more environment variables.
    """

    def __init__(
        self,
        base: Path = BASE,
        comfyui: Path | None = None,
        checkpoints: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        port: int = 0,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.base = Path(base).absolute()
        self.comfyui = comfyui or comfyui_source.locate()
        self.checkpoints = tuple(checkpoints)
        self.arguments = tuple(arguments)
        self.variables = dict(variables or {})
        self.log_path = self.base / "server.log"
        self.process: subprocess.Popen | None = None
        self._asked_port = port
        self.port = port

    @property
    def url(self) -> str:
        """The address, for example http://127.0.0.1:40123."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything the server has written so far (since its latest start)."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def client(self) -> Client:
        """A new client of this server."""
        return Client(self.url)

    def start(self, timeout: float = READY_SECONDS) -> Server:
        """Start the process and wait until it answers.

        Raises ServerError when it ends, or does not answer within `timeout` seconds.
        """
        if self.running:
            return self
        base_folder.prepare(self.base, self.checkpoints)
        environment = self._environment()
        atexit.register(self.stop)
        for _ in range(3):  # another program can take the free port between our asking and the server's start
            self.port = self._asked_port or _free_port()
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen(
                    self._command(),
                    cwd=self.base,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            if self._wait_until_ready(timeout):
                return self
            if self._asked_port or "already in use" not in self.log:
                break
        code = self.process.poll() if self.process else None
        self.stop()
        state = (
            f"ended with exit code {code}" if code is not None else f"did not answer within {timeout:.0f} s"
        )
        raise ServerError(f"The ComfyUI server {state}. The end of its log:\n{self.log[-_TAIL_CHARACTERS:]}")

    def stop(self) -> None:
        """End the process and wait for its end; nothing happens when it does not run."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        atexit.unregister(self.stop)
        self.process = None

    def kill(self) -> None:
        """End the process at once, with no chance to put things away (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        atexit.unregister(self.stop)
        self.process = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        command = [str(venv.interpreter(self.comfyui)), str(self.comfyui / "main.py")]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base), "--disable-api-nodes"]
        # by default the database lies in the ComfyUI tree
        command += ["--database-url", f"sqlite:///{self.base / 'user' / 'comfyui.db'}"]
        if second_device.wanted():
            command += second_device.arguments(self.comfyui)
        elif not has_gpu():
            command.append("--cpu")
        return [*command, *self.arguments]

    def _environment(self) -> dict[str, str]:
        """Our environment; the checkout itself is not on the path, as it is not on a user's machine."""
        variables = dict(os.environ)
        device = second_device.FOLDER if second_device.wanted() else None
        variables["PYTHONPATH"] = os.pathsep.join(str(p) for p in (device, SHIMS) if p is not None)
        variables["PYTHONUNBUFFERED"] = "1"
        variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see devkit.launch
        variables["PYTHONIOENCODING"] = "utf-8"
        if not comfyui_source.is_ours(self.comfyui):
            variables["PYTHONPYCACHEPREFIX"] = str(COMFYUI_HOME / "pycache")
        return {**variables, **self.variables}

    def _wait_until_ready(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.running:
            try:
                if requests.get(f"{self.url}/system_stats", timeout=5).ok:
                    return True
            except requests.RequestException:
                pass  # not listening yet
            time.sleep(0.2)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
