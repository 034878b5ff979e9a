"""The second device, and the pack on it: what a GPU would refuse, seen without one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devkit import second_device
from devkit.paths import ROOT, SHIMS

pytestmark = pytest.mark.skipif(
    bool(second_device.missing()), reason=f"the second device needs {second_device.missing()}"
)

APART = """
import torch, torch_directml
device = torch_directml.device()
here, there = torch.ones(2, 3), torch.ones(2, 3, device=device)
def refused(work):
    try:
        work()
    except (RuntimeError, TypeError):
        return True
assert refused(lambda: here + there)
assert refused(lambda: torch.cat([here, there]))
assert refused(lambda: there.double())
assert refused(lambda: torch.nn.functional.linear(there, here))
assert refused(lambda: torch.nn.functional.conv2d(there[None, None], here[None, None]))
assert refused(lambda: torch.nn.functional.scaled_dot_product_attention(there, here, here))
assert torch.equal((there * 2).cpu(), here * 2) and float(there.sum()) == 6
assert torch.equal(torch.nn.functional.conv2d(there[None], torch.ones(1, 1, 1, 1, device=device)).cpu(), here[None])
layer = torch.nn.Linear(3, 3).to(device)
layer(there).square().mean().backward()
assert layer.weight.grad.device == device and bool(layer.weight.grad.any())
print("apart")
"""
METHOD = """
import torch, torch_directml
from benchmarks.speed.sizes import SIZES
from benchmarks.speed.diffusers_stages import Inputs, fresh_layers
from diffusers import UNet2DConditionModel
from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.pipeline.unet import DiffusersHost
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

def everything(device):
    size = SIZES["tiny"]
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=size.side, **size.unet).eval().requires_grad_(False).to(device)
    host, inputs = DiffusersHost(unet, NoiseSchedule.scaled_linear()), Inputs(size, device)
    with Tuner(host, inputs.latents, inputs.prompt, TuningSettings(gradient_accumulation_steps=2)) as tuner:
        losses = [tuner.step().loss for _ in range(2)]
    layers = {name: tuner.temporal[name] for name in tuner.temporal.names}
    inversion = host.denoiser(inputs.prompt, layers=layers)
    noise = ddim_invert(inversion, inputs.latents, inversion_sigmas(host.schedule.sigmas, 3).to(device))
    sampling = host.denoiser(inputs.prompt, inputs.empty, 7.5, layers=layers)
    edited = ddim_sample(sampling, noise, sampling_sigmas(host.schedule.sigmas, 3).to(device))
    return losses, edited.cpu(), edited.device

here, there = everything(torch.device("cpu")), everything(torch_directml.device())
assert there[2] == torch_directml.device()
torch.testing.assert_close(torch.tensor(there[0]), torch.tensor(here[0]), rtol=1e-5, atol=0)
torch.testing.assert_close(there[1], here[1], rtol=1e-3, atol=1e-3)
print("same")
"""
PACK = tuple(f"tests/nodes/test_{name}.py" for name in ("tune", "sampling", "tuned_weights", "low_vram"))


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )


def test_it_is_kept_apart_from_the_cpu() -> None:
    done = run("-c", APART, PYTHONPATH=str(second_device.FOLDER))
    assert done.stdout.endswith("apart\n"), done.stderr


def test_the_method_computes_there_with_the_cpu_s_results() -> None:
    done = run("-c", METHOD, PYTHONPATH=os.pathsep.join(map(str, (second_device.FOLDER, SHIMS, ROOT))))
    assert done.stdout.endswith("same\n"), done.stderr[-3000:]


def test_nodes_compute_there_with_dynamic_vram() -> None:
    """Tuning, inversion, sampling and weights; `dev.py test-device` runs all there is."""
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *PACK, **{second_device.VARIABLE: "1"})
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_server_that_keeps_pictures_on_its_gpu_runs_workflows_there() -> None:
    workflows = ("tests/workflows/test_runs.py", "-k", "quickstart or reconstruction or evaluate")
    where = {second_device.VARIABLE: "--gpu-only"}
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *workflows, **where)
    assert done.returncode == 0, done.stdout[-3000:]
