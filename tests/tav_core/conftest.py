"""A tiny diffusers UNet and what it is fed, for the tests of the method."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.pipeline.unet import DiffusersHost

MakeUNet = Callable[..., UNet2DConditionModel]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_unet() -> MakeUNet:
    """make_unet(seed, **config) is a random UNet of 32 and 64 channels with three transformer blocks.

    As in Stable Diffusion 1, ``attention_head_dim`` is the number of heads.
    """

    def make(seed: int = 0, **config: object) -> UNet2DConditionModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return UNet2DConditionModel(
                **{
                    "sample_size": 8,
                    "block_out_channels": (32, 64),
                    "layers_per_block": 1,
                    "cross_attention_dim": 16,
                    "attention_head_dim": 4,
                    "norm_num_groups": 8,
                    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                    **config,
                }
            ).eval()

    return make


@pytest.fixture(scope="session")
def pristine(make_unet: MakeUNet) -> UNet2DConditionModel:
    """The tiny UNet that `unet` copies; not to be changed."""
    return make_unet()


@pytest.fixture
def unet(pristine: UNet2DConditionModel) -> UNet2DConditionModel:
    """The tiny UNet, a fresh copy for each test."""
    return copy.deepcopy(pristine)


@pytest.fixture
def host(unet: UNet2DConditionModel) -> DiffusersHost:
    """The tiny UNet as the method sees it."""
    return DiffusersHost(unet, NoiseSchedule.scaled_linear())


@pytest.fixture(scope="session")
def clip() -> Tensor:
    """Three frames of clean latents (3, 4, 8, 8)."""
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def context() -> Tensor:
    """An embedded prompt (1, 5, 16)."""
    return torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2))
