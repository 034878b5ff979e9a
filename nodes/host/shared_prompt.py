"""A prompt that all frames share is projected once in every evaluation, not once per frame."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ...tav_core.overrides import Overrides

_SHARED = "tune_a_video_shared_prompt"


class SharedPrompts:
    """ComfyUI predict-noise wrapper: notes in the transformer options whether every prompt is one for all frames.

    Later the prompts are repeated for the batch, and telling that the rows are equal would make a GPU wait.
    """

    def __call__(
        self,
        executor: Callable,
        x: Tensor,
        timestep: Tensor,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> Tensor:
        model_options = dict(model_options or {})
        options = model_options.get("transformer_options", {})
        shared = _one_row_each(getattr(executor.class_obj, "conds", {}))
        model_options["transformer_options"] = {**options, _SHARED: shared}
        return executor(x, timestep, model_options, seed)


def attach_shared_prompts(
    overrides: Overrides, cross_attentions: Iterable[nn.Module], options: dict | None, frames: int
) -> None:
    """Lets ``cross_attentions`` use one context per clip of ``frames`` if ``options`` say that its rows are equal."""
    options = options or {}
    # A patch may give each frame a context of its own.
    if frames < 2 or not options.get(_SHARED) or "attn2_patch" in options.get("patches", {}):
        return

    def once(forward: Callable, x: Tensor, context: Tensor, value: None = None, **kwargs: Any) -> Tensor:
        first = context[::frames]
        return forward(x.reshape(len(first), -1, x.shape[-1]), first, **kwargs).reshape(x.shape)

    for module in cross_attentions:
        overrides.wrap_forward(module, once)


def _one_row_each(conds: dict[str, list]) -> bool:
    prompts = [
        entry.get("model_conds", {}).get("c_crossattn")
        for entries in conds.values()
        for entry in entries or []
    ]
    return bool(prompts) and all(prompt is not None and len(prompt.cond) == 1 for prompt in prompts)
