"""The websocket of a ComfyUI server, read in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import struct
import threading
import uuid
from typing import NamedTuple

import aiohttp

_PREVIEW = 1
_TEXT = 3
_PREVIEW_WITH_METADATA = 4


class Event(NamedTuple):
    """One message of the server: its type and content. Preview pictures come as type `preview`."""

    type: str
    data: dict


class Connection:
    """Receives the messages for one client id; a context manager, in which `get` hands them out in order."""

    def __init__(self, url: str) -> None:
        self.client_id = uuid.uuid4().hex
        self._address = f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._events: queue.Queue[Event] = queue.Queue()
        self._open = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="comfyui-events")

    def __enter__(self) -> Connection:
        self._thread.start()
        self._open.wait(30)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._loop.is_running():
            with contextlib.suppress(RuntimeError):  # the loop ended by itself in this moment
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def get(self, timeout: float) -> Event | None:
        """The next message, or None when none comes within `timeout` seconds.

        A message of type `closed` says that the connection has ended.
        """
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _run(self) -> None:
        self._task = self._loop.create_task(self._read())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass  # __exit__ asked for it
        finally:
            self._loop.close()
            self._open.set()

    async def _read(self) -> None:
        reason = "the server closed the connection"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(self._address, max_msg_size=0) as socket,
            ):
                # without this, previews do not say which node they belong to
                flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
                await socket.send_json(flags)
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        content = json.loads(message.data)
                        if content["type"] == "feature_flags":  # the answer: now everything is agreed
                            self._open.set()
                        self._events.put(Event(content["type"], content.get("data") or {}))
                    elif message.type == aiohttp.WSMsgType.BINARY:
                        event = decode_binary(message.data)
                        if event is not None:
                            self._events.put(event)
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error)
        finally:
            self._events.put(Event("closed", {"reason": reason}))
            self._open.set()


def decode_binary(data: bytes) -> Event | None:
    """A binary message as an Event: `preview` (node, encoded image) or `text`; None for others."""
    (kind,) = struct.unpack_from(">I", data)
    if kind == _PREVIEW_WITH_METADATA:
        (length,) = struct.unpack_from(">I", data, 4)
        about = json.loads(data[8 : 8 + length])
        node = about.get("node_id")
        return Event(
            "preview", {"node": node, "prompt_id": about.get("prompt_id"), "image": data[8 + length :]}
        )
    if kind == _PREVIEW:
        return Event("preview", {"node": None, "prompt_id": None, "image": data[8:]})
    if kind == _TEXT:
        (length,) = struct.unpack_from(">I", data, 4)
        node = data[8 : 8 + length].decode("utf-8", "replace")
        text = data[8 + length :].decode("utf-8", "replace")
        return Event("text", {"node": node, "prompt_id": None, "text": text})
    return None
