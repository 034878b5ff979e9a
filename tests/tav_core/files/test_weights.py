"""The tuned-weights file."""

import dataclasses
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tav_core import atomic as atomic_file
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.files.weights import (
    FORMAT,
    FORMAT_VERSION,
    TunedMetadata,
    TunedWeights,
    WeightsError,
    check_fit,
    check_prediction_type,
    fingerprint,
    loss_summary,
)
from tav_core.inflation.mode import InflationMode
from tav_core.inflation.temporal import TemporalLayers
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning.settings import TRAINABLE_SETS, TuningSettings
from tav_core.tuning.tuner import Tuner

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
METADATA = TunedMetadata(
    base_fingerprint="0123456789abcdef",
    prediction_type="v_prediction",
    prompt='ein Mann fährt "Ski" 滑雪 🎿\n',
    frames=24,
    width=512,
    height=320,
    frame_stride=2,
    steps=500,
    learning_rate=3e-5,
    trainable="queries",
    attention="all",
    norm="per frame",
    seed=2**63 + 1,
    loss_first=0.1 + 0.2,
    loss_last=1e-300,
)


def tensors_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{BLOCK}.attn1.to_q.diff": torch.randn(8, 8, generator=generator),
        f"{BLOCK}.attn_temp.to_out.0.bias": torch.randn(8, generator=generator),
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deep" / "er" / "tuned.safetensors"
    TunedWeights(tensors_of(), METADATA).save(path)
    return path


def refusal(path):
    """The message with which a file is refused: one sentence that begins with its name."""
    with pytest.raises(WeightsError) as caught:
        TunedWeights.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    assert len(message) < 200
    return message


# Round trips


def test_float32_comes_back_bit_for_bit_with_its_metadata(file):
    loaded = TunedWeights.load(file)
    assert loaded.metadata == METADATA
    assert loaded.tensors.keys() == tensors_of().keys()
    for name, tensor in tensors_of().items():
        assert loaded.tensors[name].dtype == torch.float32
        assert torch.equal(loaded.tensors[name], tensor)


def test_float16_is_rounded_and_half_the_size(tmp_path):
    path = tmp_path / "half.safetensors"
    tensors = {"a": torch.randn(64, 64)}
    TunedWeights(tensors).save(path, torch.float16)
    loaded = TunedWeights.load(path)
    assert torch.equal(loaded.tensors["a"], tensors["a"].half())
    assert 64 * 64 * 2 < path.stat().st_size < 64 * 64 * 2 + 2000


def test_any_safetensors_reader_reads_it(file):
    with safe_open(str(file), framework="pt") as opened:
        header = opened.metadata()
        assert set(opened.keys()) == set(tensors_of())
    assert header["format"] == FORMAT == "tune-a-video"
    assert header["format_version"] == str(FORMAT_VERSION)
    assert header["prompt"] == METADATA.prompt


def test_non_contiguous_and_shared_tensors_are_saved(tmp_path):
    square = torch.arange(9.0).reshape(3, 3)
    path = tmp_path / "t.safetensors"
    TunedWeights({"a": square.T, "b": torch.arange(6.0)[::2]}).save(path)
    loaded = TunedWeights.load(path).tensors
    assert torch.equal(loaded["a"], square.T)
    assert loaded["b"].tolist() == [0, 2, 4]


def test_loaded_weights_do_not_depend_on_the_file(file):
    loaded = TunedWeights.load(file)
    before = {name: tensor.clone() for name, tensor in loaded.tensors.items()}
    with file.open("r+b") as opened:  # in place: a mapping of the file would show it
        opened.seek(0, os.SEEK_END)
        size = opened.tell()
        opened.seek(size - 200)
        opened.write(bytes(200))
    assert all(torch.equal(before[name], loaded.tensors[name]) for name in before)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        TunedMetadata,
        base_fingerprint=text,
        prompt=text,
        frames=st.integers(),
        seed=st.integers(),
        learning_rate=number,
        loss_first=number,
        loss_last=number,
        attention=text,
        program_version=text,
    )
)
def test_every_metadata_survives_its_header(metadata):
    header = metadata.to_header()
    assert all(type(key) is str and type(value) is str for key, value in header.items())
    assert TunedMetadata.from_header(json.loads(json.dumps(header))) == metadata


KEYS = [*(field.name for field in dataclasses.fields(TunedMetadata)), "format_version", "other"]
ODD_VALUES = ["9" * 5000, "nan", "inf", "1e999", "1", "²", "-1", "", " 7 ", "1_0"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), text | st.text("0123456789") | st.sampled_from(ODD_VALUES)))
def test_any_header_is_read_or_refused(header):
    try:
        metadata = TunedMetadata.from_header({"format": FORMAT, **header})
    except WeightsError as error:
        assert len(str(error)) < 120
        return
    for field in dataclasses.fields(TunedMetadata):
        assert type(getattr(metadata, field.name)) is type(field.default)


def test_a_prompt_that_is_no_text_is_saved_all_the_same(tmp_path):
    path = tmp_path / "t.safetensors"
    TunedWeights(tensors_of(), TunedMetadata(prompt="half a \ud83d smile")).save(path)
    assert TunedWeights.load(path).metadata.prompt == "half a ? smile"


def test_missing_entries_have_defaults_and_unknown_ones_are_ignored():
    header = {"format": FORMAT, "format_version": "1", "frames": "9", "colour": "blue"}
    assert TunedMetadata.from_header(header) == TunedMetadata(frames=9)


def test_mode_of_the_metadata():
    assert METADATA.mode == InflationMode("all", "per frame")
    with pytest.raises(ValueError, match="sideways"):
        _ = TunedMetadata(attention="sideways").mode


# Files that are not sound


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"not a safetensors file, but some text that is long enough to hold a header length\n" * 20,
        pickle.dumps({"state_dict": list(range(100))}),
        b"PK\x03\x04" + bytes(1000),
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
    ],
    ids=["empty", "short", "text", "pickle", "zip", "huge header", "list", "no metadata"],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "some file.safetensors"
    path.write_bytes(content)
    refusal(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert "no such file" in refusal(tmp_path / "folder.safetensors")


def test_every_truncation_is_refused(file):
    content = file.read_bytes()
    for size in [*range(0, len(content) - 1, 37), len(content) - 1]:
        file.write_bytes(content[:size])
        refusal(file)
    file.write_bytes(content + b"\0")
    refusal(file)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("corruption") / "c.safetensors"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(scratch, data):
    TunedWeights(tensors_of(), METADATA).save(scratch)
    content = bytearray(scratch.read_bytes())
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = value
    scratch.write_bytes(content)
    try:
        loaded = TunedWeights.load(scratch)
    except WeightsError as error:
        assert str(error).startswith(scratch.name)
    else:
        assert all(bool(tensor.isfinite().all()) for tensor in loaded.tensors.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "pt"}, "not a Tune-A-Video file"),
        ({"format": None}, "not a Tune-A-Video file"),
        ({"format_version": "2"}, "format version 2 is newer"),
        ({"format_version": "9" * 5000}, "is newer"),
        ({"format_version": None}, "'format_version' is malformed"),
        ({"format_version": "1.5"}, "'format_version' is malformed"),
        ({"frames": "many"}, "'frames' is malformed"),
        ({"frames": "2.5"}, "'frames' is malformed"),
        ({"frames": "9" * 5000}, "'frames' is malformed"),
        ({"learning_rate": "fast"}, "'learning_rate' is malformed"),
        ({"loss_last": "nan"}, "'loss_last' is malformed"),
    ],
    ids=str,
)
def test_wrong_headers_are_named(tmp_path, change, said):
    header = {name: value for name, value in (METADATA.to_header() | change).items() if value is not None}
    path = tmp_path / "wrong.safetensors"
    save_file(tensors_of(), path, metadata=header)
    assert said in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_tensors_that_are_no_numbers_are_named(tmp_path, value):
    tensors = tensors_of()
    name = next(iter(tensors))
    tensors[name][3, 4] = value
    path = tmp_path / "broken.safetensors"
    TunedWeights(tensors).save(path)
    assert name in refusal(path)


def test_whole_numbers_are_refused(tmp_path):
    path = tmp_path / "ints.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.int32)}, path, metadata=METADATA.to_header())
    assert "a holds" in refusal(path)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("a" * 201, torch.ones(2), "which no layer has"),
        ("a\nb", torch.ones(2), "which no layer has"),
        ("a", torch.ones(2, dtype=torch.int64), "holds values of the type I64"),
        ("a", torch.ones(2, dtype=torch.float8_e4m3fn), "holds values of the type F8"),
        ("a", torch.ones(1, 2, 3), "has the shape [1, 2, 3], which no layer has"),
        ("a", torch.ones(0, 3), "has the shape [0, 3], which no layer has"),
        ("a.to_q.diff_rest.places", torch.ones(2, dtype=torch.int32), "holds values of the type I32"),
    ],
    ids=["long name", "two lines", "int64", "float8", "three dimensions", "nothing", "old rest"],
)
def test_entries_that_no_tuned_file_has_are_refused_unread(tmp_path, name, tensor, said):
    path = tmp_path / "strange.safetensors"
    save_file({name: tensor}, path, metadata=METADATA.to_header())
    message = refusal(path)
    assert said in message and len(message) < 200 and message.isprintable()


# Saving in one go


@pytest.mark.parametrize("place", ["while writing", "while renaming"])
@pytest.mark.parametrize("error", [OSError("disk full"), SafetensorError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(file, monkeypatch, place, error):
    old = file.read_bytes()

    def fail(*args, **kwargs):
        if place == "while writing":
            Path(args[1]).write_bytes(b"half")
        raise error

    if place == "while writing":
        monkeypatch.setattr(atomic_file, "save_file", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OSError
    with pytest.raises(expected):
        TunedWeights(tensors_of(1), METADATA).save(file)
    assert file.read_bytes() == old
    assert os.listdir(file.parent) == [file.name]


def test_saving_replaces_the_old_file_also_while_it_is_loaded(file):
    loaded = TunedWeights.load(file)
    TunedWeights(tensors_of(1), METADATA).save(file)
    assert os.listdir(file.parent) == [file.name]
    name = next(iter(loaded.tensors))
    assert torch.equal(loaded.tensors[name], tensors_of()[name])
    assert torch.equal(TunedWeights.load(file).tensors[name], tensors_of(1)[name])


def test_the_file_has_the_permissions_of_any_other_new_file(file):
    other = file.with_name("other")
    other.write_bytes(b"")
    assert file.stat().st_mode == other.stat().st_mode


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "in the way").write_bytes(b"")
    with pytest.raises(OSError):
        TunedWeights(tensors_of()).save(tmp_path / "in the way" / "t.safetensors")


# Fitting a model


@pytest.fixture(scope="module")
def blocks(pristine):
    return DiffusersHost(pristine, NoiseSchedule.scaled_linear()).transformer_blocks()


def tuned(blocks, rank=0):
    """A full set of tensors for ``blocks``, norms and biases included."""
    tensors = {}
    for name, block in blocks.items():
        for attention in ("attn1", "attn2"):
            rows, columns = getattr(block, attention).to_q.weight.shape
            layer = f"{name}.{attention}.to_q"
            if rank:
                tensors[f"{layer}.lora_up.weight"] = torch.ones(rows, rank)
                tensors[f"{layer}.lora_down.weight"] = torch.ones(rank, columns)
            else:
                tensors[f"{layer}.diff"] = torch.ones(rows, columns)
    sizes = {name: (block.attn1.to_q.weight.shape[1], block.attn1.heads) for name, block in blocks.items()}
    layers = TemporalLayers(sizes).requires_grad_(False)
    for parameter in layers.parameters():
        parameter.fill_(0.5)
    return tensors | layers.tensors()


def misfit(tensors, blocks):
    with pytest.raises(WeightsError) as caught:
        check_fit(tensors, blocks)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_full_set_and_parts_of_it_fit(blocks, rank):
    tensors = tuned(blocks, rank)
    check_fit(tensors, blocks)
    check_fit({}, blocks)
    check_fit({name: t for name, t in tensors.items() if "_temp" in name}, blocks)
    check_fit({name: t for name, t in tensors.items() if "_temp" not in name}, blocks)
    check_fit({name: t for name, t in tensors.items() if BLOCK in name}, blocks)
    optional = ("norm_temp", "to_out.0.bias")
    check_fit({name: t for name, t in tensors.items() if not any(o in name for o in optional)}, blocks)


@pytest.mark.parametrize("trainable", TRAINABLE_SETS)
@pytest.mark.parametrize("rank", [0, 2])
def test_what_tuning_learns_fits(host, clip, context, blocks, trainable, rank):
    tuner = Tuner(host, clip, context, TuningSettings(trainable=trainable, query_rank=rank))
    check_fit(tuner.tensors(), blocks)


@pytest.mark.parametrize(
    "part", ["attn1.to_q.diff", "attn2.to_q.diff", "attn_temp.to_k.weight", "attn_temp.to_out.0.bias"]
)
def test_a_wrong_shape_is_named_with_both_shapes(blocks, part):
    tensors = tuned(blocks)
    tensors[f"{BLOCK}.{part}"] = torch.ones(7, 5)
    right = "[32]" if "bias" in part else "[32, 32]"
    assert f"{BLOCK}.{part} is [7, 5] where the model has {right}" in misfit(tensors, blocks)


def test_a_whole_query_weight_needs_its_difference_and_is_left_out_of_half_precision(tmp_path, blocks):
    tensors = tuned(blocks) | {f"{BLOCK}.attn1.to_q.weight": torch.ones(32, 32)}
    check_fit(tensors, blocks)
    TunedWeights(tensors).save(tmp_path / "half.safetensors", torch.float16)
    half = TunedWeights.load(tmp_path / "half.safetensors")
    assert tensors.keys() - half.tensors.keys() == {f"{BLOCK}.attn1.to_q.weight"}
    wrong = tensors | {f"{BLOCK}.attn1.to_q.weight": torch.ones(2)}
    assert f"{BLOCK}.attn1.to_q.weight is [2] where" in misfit(wrong, blocks)
    del tensors[f"{BLOCK}.attn1.to_q.diff"]
    assert f"{BLOCK}.attn1.to_q.diff is missing" in misfit(tensors, blocks)


def test_another_prediction_type_is_refused():
    check_prediction_type(TunedMetadata(), "epsilon")
    with pytest.raises(
        WeightsError, match="prediction type 'epsilon', and this model's is 'v_prediction'; apply"
    ):
        check_prediction_type(TunedMetadata(), "v_prediction")


@pytest.mark.parametrize("half", ["lora_up", "lora_down"])
def test_a_missing_half_of_a_low_rank_pair_is_named(blocks, half):
    tensors = tuned(blocks, 2)
    del tensors[f"{BLOCK}.attn2.to_q.{half}.weight"]
    assert f"{BLOCK}.attn2.to_q.{half}.weight is missing" in misfit(tensors, blocks)


def test_halves_of_different_ranks_are_named(blocks):
    tensors = tuned(blocks, 2)
    tensors[f"{BLOCK}.attn1.to_q.lora_up.weight"] = torch.ones(32, 3)
    assert f"{BLOCK}.attn1.to_q.lora_up.weight is [32, 3]" in misfit(tensors, blocks)


@pytest.mark.parametrize("shape", [(), (2,), (2, 32, 1)])
def test_low_rank_tensors_that_are_no_matrices_are_named(blocks, shape):
    tensors = tuned(blocks, 2)
    tensors[f"{BLOCK}.attn1.to_q.lora_down.weight"] = torch.ones(shape)
    assert f"{BLOCK}.attn1.to_q.lora_down.weight is {list(shape)}" in misfit(tensors, blocks)


@pytest.mark.parametrize("part", ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"])
def test_a_missing_temporal_weight_is_named(blocks, part):
    tensors = tuned(blocks)
    del tensors[f"{BLOCK}.attn_temp.{part}"]
    assert f"{BLOCK}.attn_temp.{part} is missing" in misfit(tensors, blocks)


@pytest.mark.parametrize(
    "name", ["unet.conv_in.weight", f"{BLOCK}.attn1.to_k.diff", f"{BLOCK}.attn_temp.pos.weight", "x"]
)
def test_unknown_names_are_named(blocks, name):
    message = misfit(tuned(blocks) | {name: torch.ones(2, 3)}, blocks)
    assert f"{name} is [2, 3], which the model has not" in message


def test_another_architecture_is_refused_in_a_short_sentence(blocks, make_unet):
    for config in ({"cross_attention_dim": 24, "block_out_channels": (16, 32)}, {"layers_per_block": 2}):
        other = make_unet(**config)
        tensors = tuned(DiffusersHost(other, NoiseSchedule.scaled_linear()).transformer_blocks())
        message = misfit(tensors, blocks)
        assert "do not fit this model" in message
        assert "more; apply them to the kind of model they were tuned on" in message
        assert len(message) < 600


# Fingerprint and summary


def attention_weights(unet):
    state = unet.state_dict()
    return {name: state[name] for name in state if ".attn" in name and "to_out" not in name}


@pytest.mark.parametrize("dtypes", [["float16"], ["bfloat16"], ["float16", "bfloat16", "float32"]], ids=str)
def test_the_fingerprint_survives_a_change_of_dtype(pristine, dtypes):
    weights = attention_weights(pristine)
    # Values that a half-precision copy rounds to zero, too.
    weights["x.attn1.to_q.weight"] = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) * 1e-9
    copies = dict(weights)
    for dtype in dtypes:
        copies = {name: tensor.to(getattr(torch, dtype)) for name, tensor in copies.items()}
    assert fingerprint(copies) == fingerprint(weights)
    assert len(fingerprint(weights)) == 16
    assert int(fingerprint(weights), 16) >= 0


def test_the_fingerprint_tells_models_apart(pristine, make_unet):
    weights = attention_weights(pristine)
    prints = {fingerprint(weights), fingerprint(attention_weights(make_unet(1))), fingerprint({})}
    generator = torch.Generator().manual_seed(0)
    # A merge or another training, in which every weight moves by about a thousandth.
    merged = {n: t + 1e-3 * t.std() * torch.randn(t.shape, generator=generator) for n, t in weights.items()}
    prints.add(fingerprint(merged))
    for name in ("attn1.to_q", "attn2.to_v"):
        prints.add(fingerprint(weights | {f"{BLOCK}.{name}.weight": -weights[f"{BLOCK}.{name}.weight"]}))
    prints.add(fingerprint({name: tensor.reshape(-1, 2) for name, tensor in weights.items()}))
    assert len(prints) == 7


def test_the_fingerprint_ignores_order_layout_and_other_weights(pristine):
    weights = attention_weights(pristine)
    expected = fingerprint(weights)
    assert fingerprint(dict(reversed(weights.items()))) == expected
    assert fingerprint({name: tensor.T.contiguous().T for name, tensor in weights.items()}) == expected
    others = {"conv_in.weight": torch.ones(3), f"{BLOCK}.ff.weight": torch.ones(2)}
    assert fingerprint(weights | others) == expected


def test_loss_summary_is_the_mean_of_the_first_and_last_tenth():
    assert loss_summary([]) == (0.0, 0.0)
    assert loss_summary([3.0]) == (3.0, 3.0)
    assert loss_summary([3.0, 2.0, 1.0]) == (3.0, 1.0)
    assert loss_summary([5.0, 3.0] + [2.0] * 16 + [1.0, 0.0]) == (4.0, 0.5)
