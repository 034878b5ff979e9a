"""Any text as a prompt schedule: keys that can be weighed, or one plain sentence.

The first two bytes are the number of frames and whether to blend; the rest is the text.
"""

import atheris
import torch  # noqa: F401  (cannot be imported under the hooks)

from .run import assert_plain, fuzz

# What regular expressions and texts are compared with guides the fuzzer as well.
atheris.enabled_hooks.add("RegEx")
atheris.enabled_hooks.add("str")

with atheris.instrument_imports(include=["tav_core"]):
    from tav_core.prompts import ScheduleError, key_weights, parse_schedule

SEEDS = {
    "two": b"\x08\x010: a man is skiing\n4: a cat",
    "quoted": b'\x08\x00"12": "spider man, cartoon",\n\'3\': x\n',
    "unsorted": b"\x20\x0130: a\n\n2 : b\r\n07:",
    "twice": b"\x02\x011: a\n1: b",
    "none": b"\x01\x00no key",
}


def one_input(data: bytes) -> None:
    """Reads ``data`` as a schedule and weighs its keys over a few frames."""
    frames, blend, text = (
        1 + data[:1].ljust(1)[0] % 32,
        data[1:2] > b"\x7f",
        data[2:].decode(errors="replace"),
    )
    try:
        keys = parse_schedule(text)
    except ScheduleError as error:
        assert_plain(str(error), longest=200)
        return
    if [key.frame for key in keys] != sorted({key.frame for key in keys}):
        raise AssertionError("keys are not in order, or twice")
    if not all(key.text in text for key in keys):
        raise AssertionError("a text is not the schedule's")
    weights = key_weights(keys, frames, blend)
    if float((weights.sum(dim=1) - 1).abs().max()) > 1e-5 or float(weights.min()) < 0:
        raise AssertionError("weights are no partition")


if __name__ == "__main__":
    fuzz(one_input, SEEDS)
