"""The base of the pack's nodes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io


class Node(io.ComfyNode):
    """Before ``execute``, inputs that are left out get the schema's defaults, and numbers are checked.

    ComfyUI looks at numbers in widgets, and there lets NaN through; what comes over connections it leaves to nodes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        execute = cls.__dict__.get("execute")
        # ComfyUI clones the class for every run, together with the wrapped method.
        if execute is not None and not hasattr(execute.__func__, "__wrapped__"):
            cls.execute = classmethod(_checked(cls, execute.__func__))


def _checked(node: type[io.ComfyNode], execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    schema = functools.cache(node.define_schema)
    names = inspect.getfullargspec(execute).args[1:]

    @functools.wraps(execute)
    def checked(cls: type[io.ComfyNode], *args: Any, **given: Any) -> io.NodeOutput:
        given |= zip(names, args, strict=False)
        is_list = schema().is_input_list
        for entry in schema().inputs:
            default = getattr(entry, "default", None)
            if entry.id not in given and (entry.optional or default is not None):
                given[entry.id] = [default] if is_list else default
            if isinstance(entry, io.Int.Input | io.Float.Input):
                for value in given[entry.id] if is_list else [given[entry.id]]:
                    _check_number(entry, value)
        return execute(cls, **given)

    return checked


def _check_number(entry: io.Int.Input | io.Float.Input, value: Any) -> None:
    if not isinstance(value, int | float) or not entry.min <= value <= entry.max:
        raise ValueError(
            f"The input '{entry.id}' must be a number from {entry.min} to {entry.max}, not {value!s:.40}."
        )
