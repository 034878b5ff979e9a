"""Any text as a prompt schedule: keys that can be weighed, or one plain sentence."""

import sys

import atheris

with atheris.instrument_imports(include=["tav_core"]):
    from tav_core.prompt_schedule import ScheduleError, key_weights, parse_schedule


def one_input(data: bytes) -> None:
    """Reads ``data`` as a schedule and weighs its keys over a few frames."""
    provider = atheris.FuzzedDataProvider(data)
    frames, blend = provider.ConsumeIntInRange(1, 32), provider.ConsumeBool()
    text = provider.ConsumeUnicode(sys.maxsize)
    try:
        keys = parse_schedule(text)
    except ScheduleError as error:
        if "\n" in str(error) or len(str(error)) > 200:
            raise AssertionError(f"not one plain sentence: {error!r}") from error
        return
    if [key.frame for key in keys] != sorted({key.frame for key in keys}):
        raise AssertionError("keys are not in order, or twice")
    weights = key_weights(keys, frames, blend)
    if float((weights.sum(dim=1) - 1).abs().max()) > 1e-5 or float(weights.min()) < 0:
        raise AssertionError("weights are no partition")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
