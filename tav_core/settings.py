"""Settings: dataclass fields that carry their range, choices and words, for everything that offers them.

ComfyUI's inputs, the command line's options, the checks of web requests, the example graphs and the English locale are
made from these fields, so that a default, a range or a help text is written once.
"""

from dataclasses import Field, dataclass, field, fields
from typing import Any

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting.

    help: one or two sentences, shown as tooltip and by ``--help``. A number lies in ``minimum``..``maximum``; ``step``
    is what an arrow in the page adds, ``precision`` what the page rounds to. A text with ``choices`` is one of them.
    advanced: few need it.
    """

    name: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    precision: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a ``value``, or None."""
        if self.choices and value not in self.choices:
            return f"unknown {self.name} {value!r:.40}; choose one of {', '.join(self.choices)}"
        # NaN is in no range.
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            return f"{self.name} must be a number from {self.minimum} to {self.maximum}, not {value!s:.40}"
        return None


def setting(
    default: Any,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    step: float | None = None,
    precision: float | None = None,
    choices: tuple[str, ...] = (),
    advanced: bool = False,
) -> Any:
    """A dataclass field that is a `Setting`; to be used in a subclass of `Settings`."""
    known = {"help": help, "minimum": minimum, "maximum": maximum, "step": step, "precision": precision}
    return field(default=default, metadata={_KEY: {**known, "choices": choices, "advanced": advanced}})


class Settings:
    """Base of frozen dataclasses of settings. Making one raises ValueError for a value that is not allowed."""

    def __post_init__(self) -> None:
        for name, known in settings_of(type(self)).items():
            problem = known.problem(getattr(self, name))
            if problem:
                raise ValueError(problem)


def settings_of(owner: type[Settings]) -> dict[str, Setting]:
    """The settings of a dataclass by name, in the order of its fields; other fields are left out."""
    declared: tuple[Field[Any], ...] = fields(owner)  # type: ignore[arg-type]
    return {
        entry.name: Setting(entry.name, entry.default, **entry.metadata[_KEY])
        for entry in declared
        if _KEY in entry.metadata
    }


def defaults_of(owner: type[Settings]) -> dict[str, Any]:
    """The default of every setting of a dataclass."""
    return values_of(owner())


def values_of(chosen: Settings) -> dict[str, Any]:
    """The value of every setting in ``chosen``."""
    return {name: getattr(chosen, name) for name in settings_of(type(chosen))}
