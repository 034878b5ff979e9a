"""The HTTP routes that the page's panels use: node states, stop and continue, small pictures of clips."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import server
from aiohttp import web

from ....tav_core.settings import Setting, settings_of
from ....tav_core.video.settings import FrameSelection
from . import clips
from .live import LIVE_STATES

PREFIX = "/tune_a_video"
_ID_CHARACTERS = 200
# Decoding is work for a core; a third page that drags waits for the others.
_decoding = asyncio.Semaphore(2)
_registered: set[int] = set()
_SELECTION = settings_of(FrameSelection)


class RequestError(ValueError):
    """A request that cannot be answered; the message is one plain sentence."""


def register_routes() -> None:
    """Adds the routes to ComfyUI's server, once. Does nothing in a program without a server."""
    instance = getattr(server.PromptServer, "instance", None)
    if instance is None or id(instance.routes) in _registered:
        return
    _registered.add(id(instance.routes))
    instance.add_on_prompt_handler(LIVE_STATES.mark_continued)
    for add, path, handler in (
        (instance.routes.get, "/live", live),
        (instance.routes.get, "/picture", picture),
        (instance.routes.post, "/stop", stop),
        (instance.routes.post, "/continue", continue_),
        (instance.routes.get, "/clip", clip),
        (instance.routes.get, "/frames", frames),
    ):
        add(PREFIX + path)(_refuse_bad_requests(handler))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _refuse_bad_requests(handler: Handler) -> Handler:
    """``handler``, answering a ValueError with status 400 and its sentence as JSON, which a page can show."""

    @functools.wraps(handler)
    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    return wrapped


async def live(request: web.Request) -> web.StreamResponse:
    """GET ?workflow=ID: what is known of this workflow's nodes, running or ended."""
    return web.json_response(LIVE_STATES.shown(_text(request.query, "workflow")))


async def picture(request: web.Request) -> web.StreamResponse:
    """GET ?workflow=ID&node=ID: the latest sheet of frames of a node, as JPEG."""
    state = LIVE_STATES.find(_text(request.query, "workflow"), _text(request.query, "node"))
    if state is None or state.sheet is None:
        return web.json_response({"error": "There is no picture of this node."}, status=404)
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=state.sheet.jpeg, content_type="image/jpeg", headers=headers)


async def stop(request: web.Request) -> web.StreamResponse:
    """POST {workflow, prompt, node}: ends a running tuning early and keeps what it learned."""
    body = await _body(request)
    if LIVE_STATES.ask_to_stop(*(_text(body, name) for name in ("workflow", "prompt", "node"))):
        return web.json_response({"stopping": True})
    return web.json_response({"error": "This tuning is not running."}, status=409)


async def continue_(request: web.Request) -> web.StreamResponse:
    """POST {workflow, node}: the next queued graph takes a stopped tuning up again."""
    body = await _body(request)
    if LIVE_STATES.ask_to_continue(*(_text(body, name) for name in ("workflow", "node"))):
        return web.json_response({"continuing": True})
    return web.json_response({"error": "There is no stopped tuning to continue."}, status=409)


async def clip(request: web.Request) -> web.StreamResponse:
    """GET ?video=NAME[&resample_fps=]: length, rate, size and a strip of small pictures."""
    query = request.query
    return await _decoded(clips.describe, _text(query, "video"), _number(query, _SELECTION["resample_fps"]))


async def frames(request: web.Request) -> web.StreamResponse:
    """GET ?video=NAME and the inputs of Load Video Frames: the frames that it will give, small."""
    query = request.query
    chosen = {
        name: _text(query, name) if known.choices else _number(query, known)
        for name, known in _SELECTION.items()
    }

    def stop_if_left(*_: int) -> None:
        if request.transport is None or request.transport.is_closing():
            raise RequestError("The page that asked for these frames has left.")

    return await _decoded(clips.preview, _text(query, "video"), FrameSelection(**chosen), stop_if_left)


async def _decoded(work: Callable[..., dict], *arguments: Any) -> web.StreamResponse:
    async with _decoding:
        return web.json_response(await asyncio.to_thread(work, *arguments))


async def _body(request: web.Request) -> dict:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RequestError("The request must be a JSON object.")
    return body


def _text(values: Any, name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or len(value) > _ID_CHARACTERS or "\0" in value:
        raise RequestError(f"{name} must be a text of at most {_ID_CHARACTERS} characters.")
    return value


def _number(values: Any, known: Setting) -> float:
    """A number in the setting's range; its default if it is not there."""
    number = type(known.default)
    try:
        value = number(values.get(known.name, known.default))
    except ValueError:
        raise RequestError(f"{known.name} must be a {'whole ' if number is int else ''}number.") from None
    problem = known.problem(value)
    if problem:
        raise RequestError(f"{problem}.")
    return value
