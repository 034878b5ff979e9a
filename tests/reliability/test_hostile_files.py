"""Tuned-weights files made to hurt: every one is refused in one sentence, or is harmless."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tav_core.files.weights import TunedWeights, WeightsError

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


entries = st.dictionaries(
    st.text(max_size=30) | st.just(LAYER) | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(
                "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 F8_E8M0 F4 I64 I32 U16 BOOL C64 X".split()
            ),
            "shape": st.lists(st.integers(-1, 5) | st.sampled_from([2**31, 2**62]), max_size=4),
            "data_offsets": st.lists(st.integers(-1, 80), min_size=2, max_size=2),
        }
    )
    | st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(made=entries, size=st.integers(0, 80), fitting=st.booleans())
def test_any_header_is_read_or_refused(tmp_path_factory, made: dict, size: int, fitting: bool) -> None:
    if fitting:
        # Offsets that follow each other reach further into the reader than random ones.
        place = 0
        for value in made.values():
            if "data_offsets" in value:
                value["data_offsets"] = [place, size]
                place = size
    path = tmp_path_factory.getbasetemp() / "made.safetensors"
    write(path, made, bytes(size))
    try:
        weights = TunedWeights.load(path)
    except WeightsError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert all(bool(tensor.isfinite().all()) for tensor in weights.tensors.values())
