"""Gradient checkpointing by block: less memory, bit-identical gradients."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..patching import Overrides


def attach_checkpointing(overrides: Overrides, modules: Iterable[nn.Module]) -> None:
    """Recomputes ``modules`` in the backward pass until ``overrides`` are detached.

    Attach it last, so that what is recomputed is the inflated module, and keep it attached over the backward
    pass. Non-reentrant, so that blocks whose inputs need no gradient train as well (the official code loses
    the gradients of all down blocks here).
    """
    for module in modules:
        overrides.wrap_forward(module, _checkpointed)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # Hosts pass dictionaries that they, and the blocks, change as the network runs; both computations must see them
    # as they were.
    def run(*args: Any, **kwargs: Any) -> Any:
        return forward(*_copied(args), **dict(zip(kwargs, _copied(kwargs.values()), strict=True)))

    args, kwargs = tuple(_copied(args)), dict(zip(kwargs, _copied(kwargs.values()), strict=True))
    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def _copied(values: Iterable[Any]) -> list[Any]:
    return [dict(value) if isinstance(value, dict) else value for value in values]
