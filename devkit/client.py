"""Talks to a ComfyUI server: synchronous calls around its HTTP interface and its websocket."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from .events import Connection, Event
from .say import DevError

RUN_SECONDS = 3600.0
_CALL_SECONDS = 60.0
_MESSAGE_CHARACTERS = 800  # a list of mismatching weights can be as long as the model


class ClientError(DevError):
    """The server refused a call or went away."""


class PromptRejected(ClientError):  # noqa: N818  (a verdict, not a fault of the client)
    """The server found the prompt invalid (HTTP 400).

    errors: {node id: [(input name or "", message), ...]}; `answer`: the server's answer as it came.
    """

    def __init__(self, answer: dict) -> None:
        self.answer = answer
        self.errors: dict[str, list[tuple[str, str]]] = {}
        lines = []
        for node, about in (answer.get("node_errors") or {}).items():
            for error in about["errors"]:
                name = (error.get("extra_info") or {}).get("input_name", "")
                text = ": ".join(part for part in (error.get("message"), error.get("details")) if part)
                self.errors.setdefault(node, []).append((name, text))
                lines.append(f"node {node} ({about.get('class_type')}): {text}")
        error = answer.get("error") or {}
        if isinstance(error, str):
            error = {"message": error}
        headline = ": ".join(part for part in (error.get("message"), error.get("details")) if part)
        super().__init__("\n".join([f"The server rejected the prompt. {headline}", *lines]))


class RunError(ClientError):
    """A node raised, or the run was interrupted; raised by Result.check()."""


@dataclass(frozen=True)
class NodeError:
    """What a node raised while it ran."""

    node: str
    class_type: str
    exception: str  # for example "ValueError"
    message: str
    traceback: str

    def __str__(self) -> str:
        message = self.message.strip()
        if len(message) > _MESSAGE_CHARACTERS:
            message = f"{message[:_MESSAGE_CHARACTERS]} ..."
        return f"node {self.node} ({self.class_type}) raised {self.exception}: {message}"


@dataclass(frozen=True)
class Progress:
    """How far one node is.

    state: "running" or "finished" when a node starts or ends, "progress" for a step inside it, "preview"
    for a picture, "text" for a text; value and maximum count steps (0 of 0 when the node does not say).
    """

    node: str
    class_type: str
    state: str
    value: float = 0
    maximum: float = 0
    image: bytes | None = None
    text: str | None = None


@dataclass
class Result:
    """What a run left behind. Node ids are strings, times are seconds."""

    id: str
    outputs: dict[str, dict] = field(default_factory=dict)
    seconds: float = 0.0
    node_seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    error: NodeError | None = None
    interrupted: bool = False
    previews: dict[str, bytes] = field(default_factory=dict)
    preview_counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the run came to its end."""
        return self.error is None and not self.interrupted

    def check(self) -> Result:
        """This result; raises RunError with a plain message when the run did not come to its end."""
        if self.error is not None:
            raise RunError(str(self.error))
        if self.interrupted:
            raise RunError("The run was interrupted.")
        return self

    def files(self, node: str | None = None) -> list[dict]:
        """The files saved (by `node`, or by all): dictionaries with filename, subfolder and type."""
        found = []
        for node_id, output in self.outputs.items():
            if node is None or node_id == node:
                for values in output.values():
                    if isinstance(values, list):
                        found += [v for v in values if isinstance(v, dict) and "filename" in v]
        return found


class Client:
    """A client of the server at `url`. Safe to use from several threads: every run has its own connection."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def object_info(self, class_type: str | None = None) -> dict:
        """The description of every node type (or of one), as the front end gets it."""
        return self._get("/object_info" + (f"/{class_type}" if class_type else "")).json()

    def system_stats(self) -> dict:
        """Versions, memory, devices."""
        return self._get("/system_stats").json()

    def history(self, prompt_id: str) -> dict | None:
        """The record of a finished prompt, or None."""
        return self._get(f"/history/{prompt_id}").json().get(prompt_id)

    def queue_state(self) -> dict:
        """The queue: {"queue_running": [...], "queue_pending": [...]}."""
        return self._get("/queue").json()

    def upload(self, path: Path, name: str | None = None, overwrite: bool = True) -> str:
        """Upload a file into the server's input folder and return the name it has there."""
        with open(path, "rb") as file:
            answer = self._post(
                "/upload/image",
                files={"image": (name or path.name, file)},
                data={"type": "input", "overwrite": "true" if overwrite else "false"},
            ).json()
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else answer["name"]

    def view(self, file: dict) -> bytes:
        """The content of a saved file; `file` as in Result.files()."""
        parameters = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        return self._get("/view", params=parameters).content

    def download(self, file: dict, target: Path) -> Path:
        """Store a saved file at `target` (a folder or a file name) and return where it lies."""
        if target.is_dir():
            target = target / file["filename"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.view(file))
        return target

    def interrupt(self) -> None:
        """Stop the run in progress, as the front end's stop button does."""
        self._post("/interrupt", json={})

    def free(self, memory: bool = True) -> None:
        """Unload the models and, with `memory`, drop every cached result.

        The server does it when it is idle next, at the latest a moment after this call.
        """
        self._post("/free", json={"unload_models": True, "free_memory": memory})

    def queue(self, prompt: dict, client_id: str | None = None) -> str:
        """Queue a prompt in API format and return its id.

        Raises PromptRejected when the server finds it invalid.
        """
        content: dict[str, Any] = {"prompt": prompt}
        if client_id:
            content["client_id"] = client_id
        answer = self._send("POST", "/prompt", json=content)
        if answer.status_code == 400:
            raise PromptRejected(answer.json())
        return self._checked(answer).json()["prompt_id"]

    def run(
        self,
        prompt: dict,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: float = RUN_SECONDS,
    ) -> Result:
        """Queue a prompt, wait for its end and return what it left behind.

        on_progress is called in this thread for each start, step, preview and end of a node; it may call
        interrupt(). Raises PromptRejected, TimeoutError after `timeout` seconds (the run is interrupted), and
        ClientError when the server goes away. A node that raises does not raise here: see Result.error.
        """
        with Connection(self.url) as connection:
            started = time.monotonic()
            result = Result(self.queue(prompt, connection.client_id))
            follower = _Follower(prompt, result, on_progress or (lambda progress: None))
            while not follower.done:
                event = connection.get(timeout=1.0)
                if event is not None:
                    follower.take(event)
                elif time.monotonic() - started > timeout:
                    self.interrupt()
                    raise TimeoutError(f"The run did not end within {timeout:.0f} s.")
            result.seconds = time.monotonic() - started
        result.outputs = self._outputs(result.id)
        return result

    def _outputs(self, prompt_id: str) -> dict[str, dict]:
        """The outputs of a finished prompt; its record is written a moment after the run ends."""
        end = time.monotonic() + _CALL_SECONDS
        while time.monotonic() < end:
            record = self.history(prompt_id)
            if record is not None:
                return record["outputs"]
            time.sleep(0.02)
        raise ClientError("The server has no record of the run that it said was done.")

    def _get(self, path: str, **arguments: Any) -> requests.Response:
        return self._checked(self._send("GET", path, **arguments))

    def _post(self, path: str, **arguments: Any) -> requests.Response:
        return self._checked(self._send("POST", path, **arguments))

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return requests.request(method, self.url + path, timeout=_CALL_SECONDS, **arguments)
        except requests.RequestException as error:
            raise ClientError(f"The server does not answer {method} {path}: {error}") from error

    @staticmethod
    def _checked(answer: requests.Response) -> requests.Response:
        if not answer.ok:
            raise ClientError(
                f"{answer.request.method} {answer.url}: HTTP {answer.status_code} {answer.text[:500]}"
            )
        return answer


class _Follower:
    """Turns the server's messages about one prompt into progress calls and a Result."""

    def __init__(self, prompt: dict, result: Result, on_progress: Callable[[Progress], object]) -> None:
        self.prompt = prompt
        self.result = result
        self.on_progress = on_progress
        self.done = False
        self._since: dict[str, float] = {}
        self._current: str | None = None

    def take(self, event: Event) -> None:
        """Handle one message; messages about other prompts are ignored."""
        if event.type == "closed":
            raise ClientError(f"The server went away during the run: {event.data['reason']}.")
        if event.data.get("prompt_id") not in (None, self.result.id):
            return
        handler = getattr(self, f"_on_{event.type}", None)
        if handler is not None:
            handler(event.data)

    def _tell(self, node: str, state: str, **details: Any) -> None:
        kind = self.prompt.get(node, {}).get("class_type", "")
        self.on_progress(Progress(node, kind, state, **details))

    def _on_progress_state(self, data: dict) -> None:
        for node, about in data["nodes"].items():
            if about["state"] == "running" and node not in self._since:
                self._since[node] = time.monotonic()
                self._tell(node, "running")
            elif (
                about["state"] == "finished" and node in self._since and node not in self.result.node_seconds
            ):
                self.result.node_seconds[node] = time.monotonic() - self._since[node]
                self.result.executed.append(node)
                self._tell(node, "finished")

    def _on_executing(self, data: dict) -> None:
        self._current = data.get("node")

    def _on_progress(self, data: dict) -> None:
        self._tell(data["node"], "progress", value=data["value"], maximum=data["max"])

    def _on_preview(self, data: dict) -> None:
        node = data["node"] or self._current
        if node is not None:
            self.result.previews[node] = data["image"]
            self.result.preview_counts[node] = self.result.preview_counts.get(node, 0) + 1
            self._tell(node, "preview", image=data["image"])

    def _on_text(self, data: dict) -> None:
        self._tell(data["node"], "text", text=data["text"])

    def _on_execution_cached(self, data: dict) -> None:
        self.result.cached = list(data["nodes"])

    def _on_execution_success(self, data: dict) -> None:
        self.done = True

    def _on_execution_interrupted(self, data: dict) -> None:
        self.result.interrupted = True
        self.done = True

    def _on_execution_error(self, data: dict) -> None:
        self.result.error = NodeError(
            node=str(data["node_id"]),
            class_type=data["node_type"],
            exception=data["exception_type"].rpartition(".")[2],
            message=data["exception_message"],
            traceback="".join(data.get("traceback") or []),
        )
        self.done = True
