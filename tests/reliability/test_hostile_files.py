"""Tuned-weights files made to hurt: every one is refused in one sentence, or is harmless."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tav_core.files.weights import TunedMetadata, TunedWeights, WeightsError, check_fit, query_deltas

HEADER = {"format": "tune-a-video", "format_version": "1"}
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.diff"


def write(path: Path, entries: dict | bytes, data: bytes = b"") -> Path:
    """A file with a header of our making."""
    header = entries
    if isinstance(entries, dict):
        header = json.dumps({"__metadata__": HEADER, **entries}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def entry(dtype: str, shape: list[int], size: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


HOSTILE = {
    "float8": ({LAYER: entry("F8_E4M3", [2, 2], 4)}, 4),
    "scales of float8": ({LAYER: entry("F8_E8M0", [2, 2], 4)}, 4),
    "float4": ({LAYER: entry("F4", [2, 2], 2)}, 2),
    "complex": ({LAYER: entry("C64", [1, 1], 8)}, 8),
    "truth values": ({LAYER: entry("BOOL", [2, 2], 4)}, 4),
    "strides that overflow": ({LAYER: entry("F32", [0, 2**62, 2**62], 0)}, 0),
    "sizes that overflow": ({LAYER: entry("F32", [2**40, 2**40], 4)}, 4),
    "a gigantic side": ({LAYER: entry("F32", [0, 2**62], 0)}, 0),
    "200 dimensions": ({LAYER: entry("F32", [1] * 200, 4)}, 4),
    "a negative side": ({LAYER: entry("F32", [-1], 4)}, 4),
    "two tensors in one place": ({LAYER: entry("F32", [1], 4), "b": entry("F32", [1], 4)}, 4),
    "data that is not there": ({LAYER: entry("F32", [1000], 4000)}, 4),
    "a name of lines": ({"a\n../x": entry("F32", [1], 4)}, 4),
    "a name without end": ({"a" * 50_000: entry("F32", [1], 4)}, 4),
    "brackets without end": (b'{"__metadata__":' + b"[" * 100_000, 0),
    "a header that is said to be huge": (b"", 0),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    entries, size = HOSTILE[kind]
    path = write(tmp_path / "hostile.safetensors", entries, bytes(size))
    if not entries:
        path.write_bytes(struct.pack("<Q", 99_000_000) + b"{}")
    with pytest.raises(WeightsError) as caught:
        TunedWeights.load(path)
    message = str(caught.value)
    assert message.startswith("hostile.safetensors: ")
    assert "\n" not in message and len(message) < 250


def test_of_two_tensors_with_one_name_only_one_is_read(tmp_path: Path) -> None:
    one = json.dumps(entry("F32", [1], 4))
    header = f'{{"__metadata__":{json.dumps(HEADER)},"a":{one},"a":{one}}}'.encode()
    path = write(tmp_path / "twice.safetensors", header, struct.pack("<f", 2.0))
    assert {name: tensor.tolist() for name, tensor in TunedWeights.load(path).tensors.items()} == {"a": [2.0]}


# A network of one block, to which what was read is fitted.
BLOCK = "a.transformer_blocks.0"
ATTENTION = SimpleNamespace(to_q=SimpleNamespace(weight=torch.zeros(2, 2)), heads=1)
BLOCKS = {BLOCK: SimpleNamespace(attn1=ATTENTION, attn2=ATTENTION)}
LAYERS = [f"{BLOCK}.attn{n}.to_q.{part}" for n in (1, 2) for part in ("diff", "weight", "lora_up.weight")]
LAYERS += [f"{BLOCK}.attn2.to_q.lora_down.weight", f"{BLOCK}.norm_temp.weight"]
LAYERS += [f"{BLOCK}.attn_temp.to_{name}" for name in ("q.weight", "k.weight", "v.weight", "out.0.weight")]
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1, "I32": 4, "BOOL": 1, "C64": 8}

values = st.sampled_from(["tune-a-video", "1", "2", "-1", "nan", "1e400", "[", "[]", "first", "epsilon", ""])
metadata = st.dictionaries(
    st.sampled_from([*HEADER, *TunedMetadata().to_header()]), values | st.text(), max_size=4
)
entries = st.dictionaries(
    st.sampled_from(LAYERS) | st.text(max_size=300),
    st.tuples(
        st.sampled_from([*SIZES, "F4", "X"]),
        st.lists(st.integers(0, 3) | st.sampled_from([-1, 2**31, 2**62]), max_size=4),
        st.lists(st.integers(-1, 80), min_size=2, max_size=2),
    ),
    max_size=6,
)


def check_read_or_refused(path: Path) -> None:
    """The file, and what is read fitted to the block, or one plain sentence of each."""
    try:
        TunedWeights.peek(path)
        weights = TunedWeights.load(path)
    except WeightsError as error:
        assert str(error).startswith(path.name) and "\n" not in str(error) and len(str(error)) < 400
        return
    assert all(bool(tensor.float().isfinite().all()) for tensor in weights.tensors.values())
    try:
        check_fit(weights.tensors, BLOCKS)
    except WeightsError as error:
        assert "\n" not in str(error) and len(str(error)) < 1200
        return
    query_deltas(weights.tensors)


@settings(max_examples=300, deadline=None)
@given(made=entries, pairs=metadata, data=st.binary(max_size=80), fitting=st.booleans())
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, made: dict, pairs: dict, data: bytes, fitting: bool
) -> None:
    header, place = {"__metadata__": HEADER | pairs}, 0
    for name, (dtype, shape, offsets) in made.items():
        if fitting:  # offsets that follow each other reach further into the reader than random ones
            size = min(math.prod(shape) * SIZES.get(dtype, 1), 1000) if min(shape, default=0) >= 0 else 0
            offsets = [place, place + size]
            place += size
        header[name] = entry(dtype, shape, 0) | {"data_offsets": offsets}
    path = tmp_path_factory.getbasetemp() / "made.safetensors"
    check_read_or_refused(write(path, json.dumps(header).encode(), data.ljust(place, b"\0")))


@settings(max_examples=200, deadline=None)
@given(header=st.binary(max_size=300), data=st.binary(max_size=40), length_is_right=st.booleans())
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, data: bytes, length_is_right: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    write(path, header, data)
    if not length_is_right:
        path.write_bytes(header + data)
    check_read_or_refused(path)
