"""Inputs of nodes, made from the settings in tav_core."""

from typing import Any

from comfy_api.latest import io

from ...tav_core.settings import Setting, Settings, settings_of

_NUMBERS = {int: io.Int.Input, float: io.Float.Input}


def input_for(owner: type[Settings], name: str, **changes: Any) -> io.Input:
    """The input of the setting ``name`` of ``owner``, with ``changes`` to the arguments of ComfyUI's class."""
    known = settings_of(owner)[name]
    offered = {"default": known.default, "tooltip": known.help, "advanced": known.advanced or None}
    if known.choices:
        return io.Combo.Input(name, **offered | {"options": list(known.choices)} | changes)
    if isinstance(known.default, bool):
        return io.Boolean.Input(name, **offered | changes)
    offered |= {"min": known.minimum, "max": known.maximum, "step": known.step}
    if known.precision:
        offered["round"] = known.precision
    if name == "seed":
        offered["control_after_generate"] = False
    return _NUMBERS[type(known.default)](name, **offered | changes)


def inputs_for(
    owner: type[Settings], since: str | None = None, until: str | None = None, **changes: Any
) -> list[io.Input]:
    """The inputs of ``owner``'s settings in their order: from ``since`` on, up to ``until`` but without it.

    Texts are left out: prompts come as CONDITIONING.
    """
    names = list(settings_of(owner))
    first, last = names.index(since) if since else 0, names.index(until) if until else len(names)
    return [
        input_for(owner, name, **changes)
        for name in names[first:last]
        if _is_widget(settings_of(owner)[name])
    ]


def _is_widget(known: Setting) -> bool:
    return bool(known.choices) or not isinstance(known.default, str)
