"""Cross-attention to a prompt that frames share: its keys and values are projected once, not once per frame."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ..patching import Overrides


def attach_shared_context(overrides: Overrides, cross_attentions: Iterable[nn.Module]) -> None:
    """Lets ``cross_attentions`` take a context of fewer rows than states until ``overrides`` are detached.

    Each is called with states (rows, tokens, channels) and ``context`` or ``encoder_hidden_states`` (n, tokens,
    width), n a divisor of rows; runs of rows / n states share a context and are queried as one long row.
    """
    for module in cross_attentions:
        overrides.wrap_forward(module, _shared)


def _shared(forward: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    context = next(kwargs[name] for name in ("encoder_hidden_states", "context") if name in kwargs)
    return forward(x.reshape(len(context), -1, x.shape[-1]), *args, **kwargs).reshape(x.shape)
