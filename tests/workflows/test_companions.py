"""The small checkpoint's companions mean the same to ComfyUI as to the training that made them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from devkit.paths import TINY_CHECKPOINT
from devkit.world.checkpoint import load_checkpoint
from devkit.world.variants import apply_lora, assemble, load_controlnet
from devkit.world.vocabulary import NEW_WORD

TIMESTEPS = torch.tensor([301, 301])


def companion(kind: str) -> Path:
    return TINY_CHECKPOINT.with_name(f"{TINY_CHECKPOINT.stem}-{kind}.safetensors")


def noisy() -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def context() -> Tensor:
    return torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(2))


def load(path: Path) -> tuple:
    """The MODEL and the CLIP that core's loader makes."""
    loader = importlib.import_module("comfy.sd").load_checkpoint_guess_config
    return loader(str(path), output_vae=False, output_clip=True)[:2]


def patched(model) -> torch.nn.Module:
    model.patch_model()
    return model.model.diffusion_model


def same(ours: Tensor, theirs: Tensor, within: float = 1e-4) -> bool:
    return float((ours - theirs).norm() / theirs.norm()) < within


@pytest.mark.not_on_second_device("loads a model past ComfyUI's memory management")
@torch.inference_mode()
def test_core_s_controlnet_gives_the_residuals_that_were_trained(comfyui: Path) -> None:
    control = importlib.import_module("comfy.controlnet").load_controlnet(str(companion("controlnet")))
    hint = torch.zeros(2, 3, 128, 128)
    hint[:, :, 40:90, 30:80] = 1
    ours = control.control_model(noisy(), hint, TIMESTEPS, context())
    trained = load_controlnet(load_checkpoint(TINY_CHECKPOINT), companion("controlnet"))
    down, middle = trained(noisy(), TIMESTEPS, context(), hint, return_dict=False)
    assert len(ours["output"]) == len(down)
    assert all(same(one, other) for one, other in zip(ours["output"], down, strict=True))
    assert same(ours["middle"][0], middle)
    assert float(middle.abs().max()) > 1e-3


@pytest.mark.not_on_second_device("loads a model past ComfyUI's memory management")
@torch.inference_mode()
def test_core_s_lora_loader_finds_a_place_for_every_key(comfyui: Path, caplog) -> None:
    model, clip = load(TINY_CHECKPOINT)
    weights = load_file(companion("lora"))
    changed, _ = importlib.import_module("comfy.sd").load_lora_for_models(model, clip, weights, 1.0, 1.0)
    assert "not loaded" not in caplog.text
    assert len(changed.patches) == sum(key.endswith("lora_up.weight") for key in weights)
    models = load_checkpoint(TINY_CHECKPOINT)
    apply_lora(models.unet, companion("lora"))
    theirs = models.unet(noisy(), TIMESTEPS, context()).sample
    assert same(patched(changed)(noisy(), TIMESTEPS, context()), theirs)


@pytest.mark.not_on_second_device("loads a model past ComfyUI's memory management")
@torch.inference_mode()
def test_the_assembled_dreambooth_loads_and_knows_its_word(comfyui: Path, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    assemble(TINY_CHECKPOINT, companion("dreambooth"), path)
    (model, clip), (base, base_clip) = load(path), load(TINY_CHECKPOINT)
    theirs = load_checkpoint(path).unet(noisy(), TIMESTEPS, context()).sample
    assert same(patched(model)(noisy(), TIMESTEPS, context()), theirs)
    assert not same(patched(base)(noisy(), TIMESTEPS, context()), theirs, 1e-2)

    def words(encoder, text: str) -> Tensor:
        return encoder.encode_from_tokens(encoder.tokenize(text))

    new = f"a {NEW_WORD} on the grass"
    assert not same(words(clip, new), words(base_clip, new), 1e-2)


@pytest.mark.parametrize("kind", ["dreambooth", "lora", "controlnet", "2"])
def test_companions_are_small_enough_for_a_checkout(kind: str) -> None:
    assert companion(kind).stat().st_size < 15e6
