"""Putting things onto modules and taking them off again without a trace."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import nn

_ABSENT = object()


class Overrides:
    """Instance-level replacements on foreign objects that are undone together, newest first.

    What an instance had of its own before (another tool's override, say) comes back; what it had from its class
    shows through again. Several on one object are detached newest first. Works as a context manager.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        """Sets an instance attribute until `detach`."""
        self._undo.append((target, name, target.__dict__.get(name, _ABSENT)))
        target.__dict__[name] = value

    def wrap_forward(self, module: nn.Module, around: Callable[..., Any]) -> None:
        """Makes ``module(...)`` return ``around(forward, ...)``, where ``forward`` is what it did before."""
        forward = module.forward

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return around(forward, *args, **kwargs)

        self.set(module, "forward", wrapped)

    def detach(self) -> None:
        """Undoes everything set so far; calling it again does nothing."""
        while self._undo:
            target, name, previous = self._undo.pop()
            if previous is _ABSENT:
                target.__dict__.pop(name, None)
            else:
                target.__dict__[name] = previous

    def __enter__(self) -> "Overrides":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()
