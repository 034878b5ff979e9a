"""Folders of the official code, in and out, bit for bit; and the queries as a LoRA file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.files.lora import lora_tensors, save_lora
from tav_core.files.official import (
    SIDECAR,
    load_official,
    official_config,
    official_tensors,
    query_difference,
    query_weight,
    save_official,
)
from tav_core.files.weights import (
    TunedMetadata,
    TunedWeights,
    WeightsError,
    check_fit,
    fingerprint,
    query_deltas,
)
from tav_core.inflation.temporal import TemporalLayers
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning.queries import TunableQueries, query_projections

# What a float32 difference cannot hold: nearly cancelling, tiny, subnormal, huge, signed zeros.
VALUES = [0.0, -0.0, 1.0, -1.0, 1e-10, -1e-30, 1e-45, 3e-39, 0.1, 1 + 2.0**-23, -1.5, 6.1e4, 1e30, 2.0**-24]
WEIGHTS = "diffusion_pytorch_model"


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(bits(ours[name]), bits(theirs[name]))
        for name in ours
    )


@pytest.fixture(scope="module")
def base(pristine) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in pristine.state_dict().items()}


@pytest.fixture(scope="module")
def config(pristine) -> dict:
    return dict(pristine.config)


@pytest.fixture(scope="module")
def blocks(pristine) -> dict:
    return dict(DiffusersHost(pristine, NoiseSchedule.scaled_linear()).transformer_blocks())


@pytest.fixture(scope="module")
def official(base: dict[str, Tensor], blocks: dict) -> dict[str, Tensor]:
    """A tuned 3D UNet with hard values in its queries and the random output bias of the official code."""
    generator = torch.Generator().manual_seed(7)
    tensors = dict(base)
    layers = TemporalLayers({name: (block.attn1.to_q.weight.shape[1], 4) for name, block in blocks.items()})
    for name, parameter in layers.state_dict().items():
        if ".norm_temp." not in name:
            tensors[name] = torch.randn(parameter.shape, generator=generator) * 0.1
        else:
            tensors[name] = parameter.clone()
    for name, layer in query_projections(blocks).items():
        weight = layer.weight.detach()
        tuned = weight + 1e-2 * torch.randn(weight.shape, generator=generator)
        tuned.view(-1)[: len(VALUES)] = torch.tensor(VALUES)
        tensors[f"{name}.weight"] = tuned
    return tensors


def write(folder: Path, tensors: dict[str, Tensor], suffix: str = ".safetensors") -> Path:
    (folder / "unet").mkdir(parents=True)
    path = folder / "unet" / f"{WEIGHTS}{suffix}"
    if suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    return folder


def tuned(unet_blocks: dict, rank: int, **metadata) -> TunedWeights:
    """What a tuning leaves, made up."""
    queries = TunableQueries(query_projections(unet_blocks), rank)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in queries.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 1e-2)
    layers = TemporalLayers(
        {name: (block.attn1.to_q.weight.shape[1], 4) for name, block in unet_blocks.items()}
    )
    layers.reset(1)
    return TunedWeights(queries.tensors() | layers.tensors(), TunedMetadata(**metadata))


def test_every_pair_of_hard_values_comes_back_bit_for_bit() -> None:
    values = torch.tensor(VALUES + [-value for value in VALUES if value])
    base, target = (grid.contiguous() for grid in torch.meshgrid(values, values, indexing="ij"))
    plain = query_difference("l", target, base, exact=False)
    assert not torch.equal(query_weight("l", base, plain), target), "the values are not hard enough"
    exact = query_difference("l", target, base)
    assert torch.equal(bits(query_weight("l", base, exact)), bits(target))
    # What applies tuned weights takes the difference, which is right to float32.
    expected = target.double() - base.double()
    applied = query_deltas({name.replace("l.", "b.to_q."): t for name, t in exact.items()})["b.to_q"]
    assert ((applied.double() - expected).abs() <= expected.abs() * 2.0**-24 + 1e-45).all()


def test_random_bit_patterns_come_back_and_easy_layers_stay_plain() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1, 60):  # the difference of the largest numbers is none
        drawn = torch.randint(-(2**31), 2**31, (2, 64, 64), generator=generator, dtype=torch.int64)
        base, target = drawn.to(torch.int32).view(torch.float32).nan_to_num(0.0, 1.0, -1.0) * 2.0**-scale
        stored = query_difference("l", target, base)
        assert torch.equal(bits(query_weight("l", base, stored)), bits(target))
    close = base * (1 + 1e-3)
    assert list(query_difference("l", close, base)) == ["l.diff"]
    close[3, 5], base[3, 5] = 1e-10, 1.0
    assert query_difference("l", close, base).keys() == {"l.diff", "l.weight"}
    with pytest.raises(WeightsError, match=r"l\.weight is too large"):
        query_difference("l", torch.full((1, 1), 3e38), torch.full((1, 1), -3e38))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_official_to_ours_to_official_is_bit_identical(
    tmp_path: Path, official, base, config, blocks, suffix: str
) -> None:
    folder = write(tmp_path / "official", official, suffix)
    weights = load_official(folder, base)
    check_fit(weights.tensors, blocks)
    assert weights.metadata.base_fingerprint == fingerprint(base)
    # By way of our own file, too.
    weights.save(tmp_path / "ours.safetensors")
    weights = TunedWeights.load(tmp_path / "ours.safetensors")
    save_official(tmp_path / "again", weights, base, config)
    written = load_file(tmp_path / "again" / "unet" / f"{WEIGHTS}.safetensors")
    assert same(written, official)
    (tmp_path / "again" / "unet" / SIDECAR).unlink()
    assert same(load_official(tmp_path / "again" / "unet", base).tensors, weights.tensors)
    # The exact form is at most a third larger than the plain one, and rounded to half it is the plain one.
    plain = load_official(folder, base, exact=False)
    assert weights.tensors.keys() > plain.tensors.keys()
    sizes = [sum(t.nbytes for t in kept.tensors.values()) for kept in (weights, plain)]
    assert sizes[0] < 1.34 * sizes[1]
    for name, kept in (("exact", weights), ("plain", plain)):
        kept.save(tmp_path / f"{name}.safetensors", torch.float16)
    exact, plain = (load_file(tmp_path / f"{name}.safetensors") for name in ("exact", "plain"))
    assert exact.keys() == plain.keys() and all(torch.equal(exact[name], plain[name]) for name in plain)


@pytest.mark.parametrize("rank", [0, 2])
def test_ours_to_official_to_ours_is_bit_identical(tmp_path: Path, base, config, blocks, rank: int) -> None:
    weights = tuned(blocks, rank, prompt="ein Hase", frames=8, steps=3)
    save_official(tmp_path / "folder", weights, base, config)
    loaded = load_official(tmp_path / "folder", base)
    assert same(loaded.tensors, weights.tensors) and loaded.metadata == weights.metadata
    # A file that no longer says the same as the UNet beside it does not count.
    path = tmp_path / "folder" / "unet" / f"{WEIGHTS}.safetensors"
    changed = load_file(path)
    name = next(name for name in changed if name.endswith("attn1.to_q.weight"))
    changed[name] = changed[name] + 1
    save_file(changed, path)
    again = load_official(tmp_path / "folder", base)
    assert not again.metadata.prompt
    assert torch.equal(official_tensors(again, base)[name], changed[name])


def test_the_parity_folder_loads_and_comes_back(tmp_path: Path) -> None:
    parity = Path(__file__).parents[4] / "shared" / "parity"
    if not parity.is_dir():
        pytest.skip("no reference files of the official code beside this checkout")
    unet2d, unet3d = (load_file(parity / f"unet{kind}.safetensors") for kind in ("2d", "3d"))
    folder = write(tmp_path / "official", unet3d)
    weights = load_official(folder, unet2d)
    config = json.loads((parity / "unet_config.json").read_text())
    save_official(tmp_path / "again", weights, unet2d, config)
    assert same(load_file(tmp_path / "again" / "unet" / f"{WEIGHTS}.safetensors"), unet3d)
    theirs = json.loads((parity / "unet3d_config.json").read_text())
    assert json.loads((tmp_path / "again" / "unet" / "config.json").read_text()) == theirs


def test_the_base_may_be_rounded_to_half_but_another_base_is_a_warning(
    tmp_path: Path, official, base, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "official", official)
    half = {name: tensor.half().float() for name, tensor in base.items()}
    with caplog.at_level(logging.WARNING):
        weights = load_official(folder, half)
        load_official(folder, {name: tensor.bfloat16() for name, tensor in base.items()})
        assert not caplog.text
        other = base | {"conv_in.weight": base["conv_in.weight"] + 0.1}
        load_official(folder, other)
    assert "another base model: 1 tensors" in caplog.text and "conv_in.weight" in caplog.text
    queries = [name for name in official if name.endswith("to_q.weight") and "_temp" not in name]
    restored = official_tensors(weights, half)
    assert all(torch.equal(bits(restored[name]), bits(official[name])) for name in queries)


def test_an_import_on_a_relative_is_added_to_it(tmp_path: Path, official, base, blocks) -> None:
    weights = load_official(write(tmp_path / "official", official), base)
    generator = torch.Generator().manual_seed(4)
    other = {n: t + 0.01 * torch.randn(t.shape, generator=generator) for n, t in base.items()}
    restored = official_tensors(weights, other)
    for name in query_projections(blocks):
        expected = other[f"{name}.weight"] + weights.tensors[f"{name}.diff"]
        assert torch.equal(restored[f"{name}.weight"], expected)


def test_unfit_folders_are_named(tmp_path: Path, official, base) -> None:
    first = next(iter(base))
    image_only = {name: tensor for name, tensor in official.items() if "_temp." not in name}
    temporal = next(name for name in official if "attn_temp.to_k" in name)
    cases = {
        "missing": ({n: t for n, t in official.items() if n != first}, f"{first} is missing"),
        "unknown": (official | {"add_embedding.weight": torch.zeros(2)}, "add_embedding.weight is unknown"),
        "shape": (official | {first: torch.zeros(3)}, r"\[3\]"),
        "image": (image_only, "no temporal attention"),
        "part": ({n: t for n, t in official.items() if n != temporal}, f"{temporal} is missing"),
        "infinite": (official | {first: base[first] / 0}, "not finite"),
    }
    for name, (tensors, message) in cases.items():
        with pytest.raises(WeightsError, match=message) as caught:
            load_official(write(tmp_path / name, tensors), base)
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="holds no Tune-A-Video UNet"):
        load_official(tmp_path, base)


class _Attack:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_code_in_it_is_refused_unread(tmp_path: Path, base, capsys) -> None:
    folder = write(tmp_path / "attack", {"x": _Attack()}, ".bin")
    with pytest.raises(WeightsError, match="damaged, or holds more than tensors"):
        load_official(folder, base)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(WeightsError, match="not a table of tensors"):
        load_official(write(tmp_path / "list", [1], ".bin"), base)
    for suffix in (".bin", ".safetensors"):
        (tmp_path / f"damaged{suffix}").write_bytes(b"\x10" * 64)
        with pytest.raises(WeightsError, match="damaged"):
            load_official(tmp_path / f"damaged{suffix}", base)


def test_a_whole_pipeline_is_written_and_nothing_is_overwritten(tmp_path: Path, base, config, blocks) -> None:
    source = tmp_path / "source"
    for part in ("vae", "scheduler", "text_encoder", "tokenizer"):
        (source / part).mkdir(parents=True)
        (source / part / "config.json").write_text("{}")
    (source / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    index = {
        part: ["diffusers", "X"]
        for part in ("vae", "scheduler", "text_encoder", "tokenizer", "safety_checker")
    }
    (source / "model_index.json").write_text(json.dumps(index))
    weights = tuned(blocks, 0)
    save_official(tmp_path / "out", weights, base, config, pipeline=source)
    written = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert written["_class_name"] == "TuneAVideoPipeline" and "safety_checker" not in written
    assert written["unet"] == ["models", "UNet3DConditionModel"]
    assert (tmp_path / "out" / "vae" / "config.json").is_file()
    with pytest.raises(OSError, match="exists already"):
        save_official(tmp_path / "out", weights, base, config)
    (tmp_path / "out" / "unet" / SIDECAR).unlink()
    loaded = load_official(tmp_path / "out", base, prediction_type="v_prediction")
    assert loaded.metadata.prediction_type == "v_prediction"
    with pytest.raises(
        WeightsError, match="scheduler is for the prediction type 'v_prediction', and the base"
    ):
        load_official(tmp_path / "out", base)
    (tmp_path / "out" / "scheduler" / "scheduler_config.json").write_text("{}")
    assert load_official(tmp_path / "out", base).metadata.prediction_type == "epsilon", "diffusers' default"
    for unreadable in ("", "[]", "{"):
        (tmp_path / "out" / "scheduler" / "scheduler_config.json").write_text(unreadable)
        with pytest.raises(WeightsError, match=r"scheduler_config\.json cannot be read"):
            load_official(tmp_path / "out", base)
    # A unet folder by itself says nothing, and is what the base is.
    (tmp_path / "out" / "unet").rename(tmp_path / "unet")
    assert (
        load_official(tmp_path / "unet", base, True, "v_prediction").metadata.prediction_type
        == "v_prediction"
    )


@pytest.mark.parametrize("index", [None, "", "[]", "7", "{"])
def test_a_folder_that_is_no_pipeline_is_refused_before_anything_is_written(
    tmp_path: Path, base, config, blocks, index: str | None
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if index is not None:
        (source / "model_index.json").write_text(index)
    with pytest.raises(WeightsError, match="source: it is not a diffusers folder"):
        save_official(tmp_path / "out", tuned(blocks, 0), base, config, pipeline=source)
    assert not (tmp_path / "out").exists()


def test_configurations_without_an_official_counterpart_are_refused(config) -> None:
    with pytest.raises(WeightsError, match="AttnDownBlock2D"):
        official_config(config | {"down_block_types": ("AttnDownBlock2D", "DownBlock2D")})


def test_low_rank_queries_are_a_lora_for_diffusers_and_full_ones_are_differences(
    tmp_path: Path, base, blocks
) -> None:
    weights = tuned(blocks, 2)
    save_lora(tmp_path / "lora.safetensors", weights, torch.float16)
    converted, alphas = _convert_non_diffusers_lora_to_diffusers(load_file(tmp_path / "lora.safetensors"))
    for layer, delta in query_deltas(weights.tensors).items():
        name = f"unet.{layer.replace('.to_q', '.processor.to_q')}_lora"
        up, down = (converted[f"{name}.{part}.weight"] for part in ("up", "down"))
        assert torch.allclose(up.float() @ down.float(), delta, atol=1e-4)
    assert set(alphas.values()) == {2.0}
    full = tuned(blocks, 0)
    tensors = lora_tensors(full)
    assert all(name.endswith(".diff") and name.startswith("lora_unet_") for name in tensors)
    assert len(tensors) == 2 * len(blocks)
    with pytest.raises(WeightsError, match="no queries"):
        lora_tensors(TunedWeights({}))
