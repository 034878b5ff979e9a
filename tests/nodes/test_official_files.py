"""Official folders and LoRA files by way of the nodes, and what core's LoraLoader makes of them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from workbench import Workbench, assert_plain, distance

import tav_core
from devkit.world.models import build_unet
from tav_core.cli.main import main

OUTSIDE = ["../escape", "a/../../escape", "/tmp/escape", "..\\escape", "C:escape", "", "a\0b"]  # noqa: S108
FP32 = "fp32 (exact)"


@pytest.fixture(scope="module")
def folder(bench: Workbench) -> Path:
    return Path(bench.folders.get_folder_paths("tune_a_video")[0])


def save(bench: Workbench, weights, prefix: str, precision: str = FP32) -> None:
    bench.run(
        "TAVSaveOfficial", model=bench.model, weights=weights, filename_prefix=prefix, precision=precision
    )


def load(bench: Workbench, name: str):
    return bench.run("TAVLoadOfficial", model=bench.model, folder=name)[0]


def test_the_base_of_a_model_is_diffusers_unet(bench: Workbench) -> None:
    nodes = bench.pack("nodes.official_files")
    ours = nodes.base_weights(bench.model)
    theirs = build_unet()
    assert {name: t.shape for name, t in ours.items()} == {n: t.shape for n, t in theirs.state_dict().items()}
    config = {k: v for k, v in nodes.diffusers_config(bench.model).items() if k != "sample_size"}
    same = UNet2DConditionModel(**config)
    assert {n: t.shape for n, t in same.state_dict().items()} == {n: t.shape for n, t in ours.items()}
    assert config["attention_head_dim"] == theirs.config.attention_head_dim


def test_what_the_nodes_save_they_load(bench: Workbench, folder: Path) -> None:
    weights = bench.weights(prompt="a rabbit", frames=3)
    for _ in range(2):
        save(bench, weights, "official/rabbit")
    assert (folder / "official" / "rabbit_00002" / "unet" / "config.json").is_file()
    assert "official/rabbit_00001" in bench.pack("nodes.comfy.official").official_folders()
    loaded = load(bench, "official/rabbit_00001")
    assert loaded.metadata == weights.metadata
    assert all(torch.equal(loaded.tensors[name], weights.tensors[name]) for name in weights.tensors)
    # Of a whole pipeline only our own file is one that Load Tuned Weights offers.
    for part in ("text_encoder/model", "vae/diffusion_pytorch_model", "tokenizer/skiing"):
        path = folder / "official" / "rabbit_00002" / f"{part}.safetensors"
        path.parent.mkdir()
        path.write_bytes(b"")
    listed = [Path(name) for name in bench.pack("nodes.comfy.files").names()]
    listed = [name for name in listed if "rabbit_00002" in name.parts]
    assert sorted(name.name for name in listed) == ["skiing.safetensors", "tune_a_video.safetensors"]
    # Also without our own file beside it, as the official code leaves a folder.
    (folder / "official" / "rabbit_00001" / "unet" / "tune_a_video.safetensors").unlink()
    foreign = load(bench, "official/rabbit_00001")
    assert distance(bench.draw(bench.apply(foreign)), bench.draw(bench.apply(weights))) < 1e-5
    save(bench, foreign, "official/again")
    first, second = (
        load_file(folder / "official" / name / "unet" / "diffusion_pytorch_model.safetensors")
        for name in ("rabbit_00001", "again_00001")
    )
    assert all(torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first)


@pytest.mark.parametrize("prefix", OUTSIDE)
@pytest.mark.parametrize("name", ["TAVSaveOfficial", "TAVSaveQueryLora"])
def test_names_outside_of_the_folder_are_refused(
    bench: Workbench, folder: Path, name: str, prefix: str
) -> None:
    inputs = {"weights": bench.weights(), "filename_prefix": prefix, "precision": FP32}
    if name == "TAVSaveOfficial":
        inputs["model"] = bench.model
    before = sorted(folder.parent.parent.rglob("*escape*"))
    with pytest.raises(ValueError) as caught:
        bench.run(name, **inputs)
    assert_plain(str(caught.value), "'filename_prefix'", "models/")
    assert_plain(bench.node(name).validate_inputs(filename_prefix=prefix), "'filename_prefix'")
    assert sorted(folder.parent.parent.rglob("*escape*")) == before


@pytest.mark.parametrize("name", ["../escape", "/tmp", "no-such", "", "."])  # noqa: S108
def test_only_listed_folders_are_read(bench: Workbench, name: str) -> None:
    with pytest.raises(ValueError, match="no official Tune-A-Video folder .* in models/tune_a_video"):
        load(bench, name)
    assert_plain(bench.node("TAVLoadOfficial").validate_inputs(folder=name), "models/tune_a_video")
    assert bench.node("TAVLoadOfficial").fingerprint_inputs(folder=name) == ""


def test_a_folder_of_another_model_is_named(bench: Workbench, folder: Path) -> None:
    other = UNet2DConditionModel(**{**build_unet().config, "cross_attention_dim": 32})
    tensors = other.state_dict()
    name = next(name for name in tensors if name.endswith("attn1.to_q.weight"))
    tensors[name.replace("attn1", "attn_temp")] = tensors[name].clone()
    (folder / "foreign" / "unet").mkdir(parents=True)
    save_file(tensors, folder / "foreign" / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError) as caught:
        load(bench, "foreign")
    assert_plain(str(caught.value), "does not fit the base model")


@pytest.mark.parametrize("rank", [0, 2])
def test_the_lora_is_what_the_queries_alone_do(bench: Workbench, rank: int) -> None:
    weights = bench.weights()
    if rank:
        generator = torch.Generator().manual_seed(1)
        for name in [name for name in weights.tensors if name.endswith(".diff")]:
            rows, columns = weights.tensors.pop(name).shape
            layer = name.removesuffix(".diff")
            for part, shape in (("up", (rows, rank)), ("down", (rank, columns))):
                drawn = torch.randn(shape, generator=generator) * 0.2
                weights.tensors[f"{layer}.lora_{part}.weight"] = drawn
    prefix = f"tav/queries-{rank}"
    bench.run("TAVSaveQueryLora", weights=weights, filename_prefix=prefix, precision=FP32)
    path = Path(bench.folders.get_folder_paths("loras")[0]) / f"{prefix}_00001.safetensors"
    loader = importlib.import_module("comfy.sd").load_lora_for_models
    model, _ = loader(bench.model, None, load_file(path), 0.7, 0.0)
    assert len(model.patches) == sum(name.endswith((".diff", "up.weight")) for name in weights.tensors)
    ours, theirs = (bench.draw(m) for m in (bench.apply(weights, 0.7, 0.0), bench.inflate(model)))
    assert distance(ours, theirs) < 1e-5
    assert distance(theirs, bench.draw(bench.inflate())) > 1e-3


def test_python_and_comfyui_draw_the_same_from_a_file_that_python_tuned(
    bench: Workbench, tmp_path: Path, diffusers_folder: Path, clip_file: Path
) -> None:
    steps, tuned_file = 4, tmp_path / "tuned.safetensors"
    command = [
        "tune",
        "--model",
        str(diffusers_folder),
        "--video",
        str(clip_file),
        "--frames",
        "3",
        "--size",
        "64x64",
    ]
    command += ["--prompt", "a square", "--steps", "3", "--learning-rate", "1e-3", "--quiet"]
    command += ["--gradient-checkpointing", "none"]
    assert main([*command, "--out", str(tuned_file)]) == 0
    python = tav_core.load_model(diffusers_folder)
    weights = tav_core.load_tuned(tuned_file, python)
    clip = tav_core.read_clip(clip_file, 3, (64, 64))
    noise = tav_core.invert(python, clip, weights, tav_core.Inversion(steps))
    edit = "a cat on the beach, pixel art style"
    theirs = tav_core.sample(python, noise, weights, edit, tav_core.Sampling(steps, cfg=4.0))

    weights = bench.pack("tav_core.files.weights").TunedWeights.load(tuned_file)
    assert weights.metadata.base_fingerprint == bench.pack("nodes.comfy.model.base_weights").base_fingerprint(
        bench.model
    )
    with torch.inference_mode():
        latent = {"samples": bench.vae.encode(clip.frames)}
        tuned = bench.apply(weights)
        drawn = bench.sample(tuned, bench.invert(tuned, steps, latent=latent), steps)
        ours = bench.vae.decode(drawn)
    assert distance(ours.reshape(theirs.shape).cpu(), theirs) < 1e-3
