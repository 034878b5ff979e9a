"""The state of a running node as the page shows it: status, values, a picture, and requests to stop or continue.

States stay after the node has ended, so that a page that is loaded later, or a second window, shows them again.
Their key is (workflow, node), because every window gets every event.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import server
from comfy_execution.utils import get_executing_context

from ....tav_core.video.sprites import SpriteSheet

EVENT = "tune_a_video.live"
# Seconds between two events of a node, each of which may bring a picture of the whole clip.
INTERVAL = 0.5
# A state with its picture is a few hundred kilobytes.
MOST_STATES = 64

RUNNING, DONE, STOPPED, INTERRUPTED, FAILED = "running", "done", "stopped", "interrupted", "failed"


@dataclass
class LiveState:
    """What is known of one node's latest run."""

    workflow: str
    prompt: str
    node: str
    kind: str
    status: str = RUNNING
    data: dict[str, Any] = field(default_factory=dict)
    # Values that grow by the end, such as losses: an event carries only what is new.
    series: dict[str, list[float]] = field(default_factory=dict)
    sheet: SpriteSheet | None = None
    pictures: int = 0
    stop_asked: bool = False

    def shown(self, since: dict[str, int] | None = None) -> dict[str, Any]:
        """The state as JSON can hold it; with ``since``, each series only from that index on."""
        since = since or {}
        return {
            "workflow": self.workflow,
            "prompt": self.prompt,
            "node": self.node,
            "kind": self.kind,
            "status": self.status,
            "stopping": self.stop_asked and self.status == RUNNING,
            "data": dict(self.data),
            "series": {
                name: {"from": since.get(name, 0), "values": values[since.get(name, 0) :]}
                for name, values in self.series.items()
            },
            "sheet": self.sheet.layout() | {"number": self.pictures} if self.sheet else None,
        }


class LiveStates:
    """The latest states of all nodes. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._states: OrderedDict[tuple[str, str], LiveState] = OrderedDict()
        self._continued: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def begin(self, state: LiveState) -> None:
        """Puts ``state`` in the place of the node's earlier one."""
        with self._lock:
            key = (state.workflow, state.node)
            self._states.pop(key, None)
            self._states[key] = state
            while len(self._states) > MOST_STATES:
                self._states.popitem(last=False)

    def find(self, workflow: str, node: str) -> LiveState | None:
        """A node's state, if it is known."""
        with self._lock:
            return self._states.get((workflow, node))

    def shown(self, workflow: str) -> list[dict[str, Any]]:
        """All states of one workflow."""
        with self._lock:
            return [state.shown() for state in self._states.values() if state.workflow == workflow]

    def ask_to_stop(self, workflow: str, prompt: str, node: str) -> bool:
        """Asks a running tuning to stop and keep what it learned; False if that one does not run."""
        with self._lock:
            state = self._states.get((workflow, node))
            if state is None or state.status != RUNNING or state.prompt != prompt or state.kind != "tuning":
                return False
            state.stop_asked = True
            return True

    def ask_to_continue(self, workflow: str, node: str) -> bool:
        """Lets the next queued graph run a stopped tuning again; False if there is none."""
        with self._lock:
            state = self._states.get((workflow, node))
            if state is None or state.kind != "tuning" or state.status not in (STOPPED, INTERRUPTED):
                return False
            self._continued[workflow, node] = self._continued.get((workflow, node), 0) + 1
            return True

    def mark_continued(self, queued: dict[str, Any]) -> dict[str, Any]:
        """Notes in a queued graph how often its tunings were continued, and returns it.

        ComfyUI takes a node whose inputs changed for a new one and runs it; an input that the node does not
        have is not passed on. ``queued`` is what a client sent to /prompt.
        """
        workflow = workflow_id((queued.get("extra_data") or {}).get("extra_pnginfo"))
        with self._lock:
            for (continued_in, node), times in self._continued.items():
                if continued_in == workflow and node in (queued.get("prompt") or {}):
                    queued["prompt"][node]["inputs"]["times_continued"] = times
        return queued


LIVE_STATES = LiveStates()


class Reporter:
    """Tells every open page about the node that runs now."""

    def __init__(self, state: LiveState, interval: float = INTERVAL) -> None:
        self.state = state
        self._interval = interval
        self._sent_at = 0.0
        self._sent: dict[str, int] = {}

    @property
    def stop_asked(self) -> bool:
        """Whether the user has pressed "Stop and keep"."""
        return self.state.stop_asked

    def due(self) -> bool:
        """Whether enough time has passed since the last event; a picture is only worth making then."""
        return time.monotonic() - self._sent_at >= self._interval

    def show(self, sheet: SpriteSheet | None = None, **data: Any) -> None:
        """Sets values of the state, and the picture if one is given, and sends them if it is time to."""
        self.state.data.update(data)
        if sheet is not None:
            self.state.sheet = sheet
            self.state.pictures += 1
        if self.due():
            self.send()

    def extend(self, name: str, values: list[float]) -> None:
        """Makes the series ``name`` as long as ``values``, whose beginning it has already."""
        known = self.state.series.setdefault(name, [])
        known.extend(round(value, 6) for value in values[len(known) :])

    def end(self, status: str) -> None:
        """Says how the node ended."""
        self.state.status = status
        self.send()

    def send(self) -> None:
        """Sends what is new to every open page."""
        self._sent_at = time.monotonic()
        content = self.state.shown(self._sent)
        self._sent = {name: len(values) for name, values in self.state.series.items()}
        _broadcast(content)


@contextmanager
def reporting(kind: str, extra_pnginfo: Any, interval: float = INTERVAL) -> Iterator[Reporter]:
    """A reporter for the node that runs; on leaving it reports how the node ended, also by an interrupt or an error.

    ``kind`` is "tuning", "inversion" or "sampling"; ``extra_pnginfo`` is the node's hidden input of that name.
    Changes are sent at most every ``interval`` seconds.
    """
    context = get_executing_context()
    prompt, node = (context.prompt_id, context.node_id) if context else ("", "")
    reporter = Reporter(LiveState(workflow_id(extra_pnginfo), prompt, node, kind), interval)
    LIVE_STATES.begin(reporter.state)
    reporter.send()
    try:
        yield reporter
    except Exception:
        reporter.end(FAILED)
        raise
    except BaseException:
        # ComfyUI's interrupt is not an Exception.
        reporter.end(INTERRUPTED)
        raise
    if reporter.state.status == RUNNING:
        reporter.end(DONE)


def workflow_id(extra_pnginfo: Any) -> str:
    """The id of the workflow that a graph was queued from; empty for a graph that came without one."""
    workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    return str(workflow.get("id") or "") if isinstance(workflow, dict) else ""


def _broadcast(content: dict[str, Any]) -> None:
    instance = getattr(server.PromptServer, "instance", None)
    if instance is None:
        return
    try:
        instance.send_sync(EVENT, content)
    except RuntimeError as error:
        # The server's loop has ended while the node still ran; the node's result matters more.
        logging.debug("Tune-A-Video: no event could be sent (%s)", error)
