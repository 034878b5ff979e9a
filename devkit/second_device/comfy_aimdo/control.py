"""Starting and stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_NAMES = ("detail", "critical", "error", "warning", "info", "debug")


def init(**options: object) -> bool:
    """There is nothing to load."""
    return True


def init_devices(devices: Iterable[object]) -> bool:
    """Whether there is a device."""
    return any(True for _ in devices)


def init_device(device: object) -> bool:
    """As `init_devices`, for older versions of ComfyUI."""
    return True


def analyze() -> None:
    """Writes nothing to the log."""


def get_total_vram_usage() -> int:
    """Bytes on the device; none are counted."""
    return 0


def __getattr__(name: str) -> Callable[[], None]:
    if name.removeprefix("set_log_") in _NAMES:
        return lambda: None
    raise AttributeError(name)
