"""Any bytes as a tuned-weights file: sound weights, or one plain sentence that begins with the file's name.

The first byte says how the rest is taken: H, as the header of a file whose length field is right; S, as choices of
entries, types, shapes and values of a header that safetensors accepts more often; else as the file itself. What is
read is also fitted to a network of one block.
"""

import atexit
import json
import shutil
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["tav_core"]):
    from tav_core.files.weights import TunedMetadata, TunedWeights, WeightsError, check_fit, query_deltas

import torch

from .run import assert_plain, fuzz

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
FILE = FOLDER / "fuzzed.safetensors"
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

BLOCK = "a.transformer_blocks.0"
_PROJECTION = SimpleNamespace(weight=torch.zeros(2, 2))
_ATTENTION = SimpleNamespace(to_q=_PROJECTION, heads=1)
BLOCKS = {BLOCK: SimpleNamespace(attn1=_ATTENTION, attn2=_ATTENTION)}

SIZES = {"F32": 4, "F16": 2, "I32": 4, "BF16": 2, "F64": 8, "BOOL": 1, "F8_E4M3": 1, "C64": 8, "X": 1}
LAYERS = [
    f"{BLOCK}.{part}"
    for part in (
        "attn1.to_q.diff",
        "attn1.to_q.weight",
        "attn2.to_q.lora_up.weight",
        "attn2.to_q.lora_down.weight",
        "attn_temp.to_q.weight",
        "attn_temp.to_k.weight",
        "attn_temp.to_v.weight",
        "attn_temp.to_out.0.weight",
        "attn_temp.to_out.0.bias",
        "norm_temp.weight",
    )
]
ENTRIES = ["format", "format_version", *TunedMetadata().to_header()]
VALUES = [
    "tune-a-video",
    "1",
    "2",
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "[]",
    "[",
    "first",
    "all",
    "epsilon",
    "",
]


def chosen(provider: atheris.FuzzedDataProvider) -> bytes:
    """A file of sound form whose entries are the fuzzer's choice."""
    pairs = {"format": "tune-a-video", "format_version": "1"}
    for _ in range(provider.ConsumeIntInRange(0, 4)):
        text = provider.ConsumeUnicodeNoSurrogates(20) if provider.ConsumeBool() else ""
        pairs[provider.PickValueInList(ENTRIES)] = text or provider.PickValueInList(VALUES)
    header: dict = {"__metadata__": pairs}
    place = 0
    for _ in range(provider.ConsumeIntInRange(0, 6)):
        kind = provider.PickValueInList(list(SIZES))
        shape = [provider.ConsumeIntInRange(0, 3) for _ in range(provider.ConsumeIntInRange(0, 3))]
        name = provider.PickValueInList(LAYERS)
        if provider.ConsumeIntInRange(0, 9) == 0:
            name = provider.ConsumeUnicodeNoSurrogates(300)
        size = SIZES[kind]
        for side in shape:
            size *= side
        if provider.ConsumeIntInRange(0, 9) == 0:
            shape, size = [provider.ConsumeInt(8), provider.ConsumeInt(2)], provider.ConsumeIntInRange(0, 16)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + provider.ConsumeBytes(place).ljust(place, b"\0")


def one_input(data: bytes) -> None:
    """Reads ``data`` as a file, by both of the reader's ways in, and fits what is read."""
    if data[:1] == b"H":
        header, _, rest = data[1:].partition(b"\0")
        data = struct.pack("<Q", len(header)) + header + rest
    elif data[:1] == b"S":
        data = chosen(atheris.FuzzedDataProvider(data[1:]))
    FILE.write_bytes(data)
    try:
        TunedWeights.peek(FILE)
        weights = TunedWeights.load(FILE)
    except WeightsError as error:
        assert_plain(str(error), start=FILE.name)
        return
    try:
        check_fit(weights.tensors, BLOCKS)
    except WeightsError as error:
        assert_plain(str(error), longest=1200)
        return
    query_deltas(weights.tensors)
    if not all(bool(tensor.float().isfinite().all()) for tensor in weights.tensors.values()):
        raise AssertionError("values that are no numbers in single precision")


def seeds() -> dict[str, bytes]:
    """A sound file, its header, and choices."""
    header = b'{"__metadata__":{"format":"tune-a-video","format_version":"1","frames":"8","losses":"[]"},'
    header += b'"%s":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}' % LAYERS[0].encode()
    values = struct.pack("<4f", 1.0, -2.0, 0.5, 0.0)
    return {
        "sound": struct.pack("<Q", len(header)) + header + values,
        "header": b"H" + header + b"\0" + values,
        "choices": b"S" + bytes(range(256)),
        "other choices": b"S" + bytes(range(255, 0, -1)),
    }


if __name__ == "__main__":
    fuzz(one_input, seeds())
