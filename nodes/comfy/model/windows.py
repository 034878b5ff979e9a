"""Core's context windows on an inflated MODEL: every window gets the frames before it that its attention looks at."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from comfy.context_windows import IndexListContextHandler
from torch import Tensor

from ....tav_core.inflation.attention import frames_before
from ....tav_core.inflation.mode import AttentionMode


class AnchorWindows:
    """ComfyUI predict-noise wrapper: context windows over frames are evaluated by `AnchoredHandler`.

    At this moment, and not when the graph is built, so that core's node may come before or after ours and its
    handler, which belongs to another MODEL, stays as it is.
    """

    def __init__(self, attention: AttentionMode) -> None:
        self.attention = attention

    def __call__(
        self,
        executor: Callable,
        x: Tensor,
        timestep: Tensor,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> Tensor:
        model_options = model_options or {}
        handler = model_options.get("context_handler")
        # Windows over height or width, or another pack's own handlers, know what they do.
        if isinstance(handler, IndexListContextHandler) and handler.dim == 0:
            model_options = {**model_options, "context_handler": AnchoredHandler(handler, self.attention)}
        return executor(x, timestep, model_options, seed)


class AnchoredHandler:
    """A context handler that makes each window of ``handler`` a clip that begins as the whole one does.

    Core evaluates a window as if its frames were all there are. Here the clip's first frame and the one before the
    window go in front of it, as far as the attention mode wants them, with the prompts, masks and ControlNet hints of
    all its frames, and what the network answers for them is dropped. Core still decides which windows there are
    and how they are blended.
    """

    def __init__(self, handler: IndexListContextHandler, attention: AttentionMode) -> None:
        self.handler = handler
        self.attention = attention

    def __getattr__(self, name: str) -> Any:
        if name == "handler":  # asked for before it is set, by copy say
            raise AttributeError(name)
        return getattr(self.handler, name)

    def execute(
        self,
        calc_cond_batch: Callable,
        model: Any,
        conds: list,
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict,
    ) -> list[Tensor]:
        """The blended answer for all frames, one per list of conditions; see core's ContextHandlerABC."""

        def in_context(model: Any, _: list, sub_x: Tensor, sub_timestep: Tensor, model_options: dict) -> list:
            options = model_options["transformer_options"]
            own = options["context_window"]
            # Newer versions of core put the frame before the window there themselves.
            given = len(sub_x) - len(own.index_list)
            window = self._with_frames_before(own, given)
            added = len(window.index_list) - len(sub_x)
            sliced = self._sliced(conds, x_in, window)
            sub_x = torch.cat([x_in[window.index_list[:added]].to(sub_x), sub_x])
            options["context_window"] = window
            try:
                out = calc_cond_batch(
                    model, sliced, sub_x, window.get_tensor(timestep, sub_x.device, dim=0), model_options
                )
            finally:
                options["context_window"] = own
            return [answer[added:] for answer in out]

        return self.handler.execute(in_context, model, conds, x_in, timestep, model_options)

    def _sliced(self, conds: list, x_in: Tensor, window: Any) -> list:
        sliced, made = [], {}
        for cond in conds:
            entries = self.handler.get_resized_cond(cond, x_in, window)
            if entries is not None:
                entries = [_with_control(entry, window.index_list, len(x_in), made) for entry in entries]
            sliced.append(entries)
        return sliced

    def _with_frames_before(self, window: Any, given: int) -> Any:
        start = window.index_list[0]
        before = frames_before(start, self.attention)
        if given and start - 1 not in before:
            before.append(start - 1)
        # A copy keeps what else core notes on a window, such as where in the clip it lies.
        window = copy.copy(window)
        window.index_list = [*before, *window.index_list]
        window.context_length = len(window.index_list)
        window.causal_anchor_index = None
        return window


def _with_control(entry: dict, frames: list[int], total: int, made: dict[int, Any]) -> dict:
    if entry.get("control") is None:
        return entry
    return {**entry, "control": _windowed_control(entry["control"], frames, total, made)}


def _windowed_control(control: Any, frames: list[int], total: int, made: dict[int, Any]) -> Any:
    """``control`` with the hints of ``frames`` where it has one per frame of the clip; the original stays as it is.

    A shallow copy shares the network, and lives for one evaluation: what it computes from its hints would grow
    with the clip if it were kept. ``made`` holds the copies of this evaluation by their originals' ids, because core
    batches conditions only if their ControlNet is the same object.
    """
    if id(control) not in made:
        windowed = copy.copy(control)
        hint = windowed.cond_hint_original
        if isinstance(hint, Tensor) and len(hint) == total:
            windowed.cond_hint_original = hint[frames]
        windowed.extra_concat_orig = [
            extra[frames] if len(extra) == total else extra for extra in windowed.extra_concat_orig
        ]
        # Computed from the hints of all frames, if any evaluation without windows was before.
        windowed.cond_hint = None
        if hasattr(windowed, "control_input"):
            windowed.control_input = None
        if windowed.previous_controlnet is not None:
            windowed.previous_controlnet = _windowed_control(
                windowed.previous_controlnet, frames, total, made
            )
        clones = getattr(windowed, "multigpu_clones", {})
        windowed.multigpu_clones = {
            device: _windowed_control(clone, frames, total, made) for device, clone in clones.items()
        }
        made[id(control)] = windowed
    return made[id(control)]
