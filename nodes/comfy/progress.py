"""Progress on the running node, and ComfyUI's check of connected types."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils
from comfy_execution.validation import validate_node_input


def progress(total: int) -> Callable[[int, int], None]:
    """A bar on the running node: ``report(done, total)`` moves it, and raises where the user has interrupted."""
    bar = comfy.utils.ProgressBar(total)

    def report(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done != bar.current:
            bar.update_absolute(done, total)

    return report


def connects(received: str, expected: str) -> bool:
    """Whether an output of type ``received`` may be connected to an input of type ``expected``."""
    return validate_node_input(received, expected)
