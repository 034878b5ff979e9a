"""Gradient checkpointing by block: less memory, the same gradients bit for bit."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from .overrides import Overrides


def attach_checkpointing(overrides: Overrides, modules: Iterable[nn.Module]) -> None:
    """Recomputes ``modules`` in the backward pass until ``overrides`` are detached.

    Attach it last, so that what is recomputed is the inflated module, and keep it attached over the backward
    pass. Non-reentrant, so that blocks whose inputs need no gradient train as well (the official code loses
    the gradients of all down blocks here).
    """
    for module in modules:
        overrides.wrap_forward(module, _checkpointed)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # Hosts pass dictionaries that they change as the network runs; the recomputation must see them as they were.
    args = tuple(dict(a) if isinstance(a, dict) else a for a in args)
    kwargs = {k: dict(a) if isinstance(a, dict) else a for k, a in kwargs.items()}
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
