"""ComfyUI's own parts in this process, used as its executor uses them, for tests that need no server."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from graphs import TUNING
from torch import Tensor

STEPS = 2


class Workbench:
    """A loaded checkpoint and ways to run nodes on it.

    Everything runs in inference mode, as in ComfyUI. `model` is the MODEL of the loader; `empty`, `source` and
    `edit` are CONDITIONINGs; `latent` is a clip of three frames, 8x8 in latents.
    """

    def __init__(self, pack: Callable[[str], Any], checkpoint: Path) -> None:
        self.pack = pack
        self.folders = importlib.import_module("folder_paths")
        pack("nodes.comfy.files").register_folder()
        self.model, self.clip, self.vae = self.load(checkpoint)
        self.empty = self.prompt("")
        self.source = self.prompt("a rabbit on the grass")
        self.edit = self.prompt("a cat on the beach, pixel art style")
        generator = torch.Generator().manual_seed(3)
        still, moving = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
        self.latent = {"samples": torch.cat([still + 0.3 * i * moving for i in range(3)]) * 0.7}

    @torch.inference_mode()
    def load(self, checkpoint: Path, **options: Any) -> tuple:
        """CheckpointLoaderSimple's work; options such as dtype for the UNet."""
        loader = importlib.import_module("comfy.sd").load_checkpoint_guess_config
        return loader(str(checkpoint), output_vae=True, output_clip=True, model_options=options)[:3]

    @torch.inference_mode()
    def prompt(self, text: str) -> list:
        """CLIPTextEncode's work."""
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    @torch.inference_mode()
    def run(self, node: Any, **inputs: Any) -> Any:
        """What a node puts out: one value, or a tuple of several. `node`: a class, or the name of one of ours."""
        if isinstance(node, str):
            node = self.node(node)
        if hasattr(node, "PREPARE_CLASS_CLONE"):
            outputs = node.PREPARE_CLASS_CLONE(None).execute(**inputs)
            outputs = getattr(outputs, "result", outputs)
        else:
            outputs = getattr(node(), node.FUNCTION)(**inputs)
        return outputs[0] if outputs is not None and len(outputs) == 1 else outputs

    def node(self, name: str) -> Any:
        """The class of one of the pack's nodes."""
        return getattr(self.pack("nodes"), name)

    def core(self, module: str, name: str) -> Any:
        """The class of one of core's nodes: core("nodes", "KSampler"), core("comfy_extras.nodes_pag", ...)."""
        return getattr(importlib.import_module(module), name)

    def inflate(self, model: Any = None, attention: str | None = None, norm: str | None = None) -> Any:
        """Inflate Model."""
        changes = {name: mode for name, mode in (("attention", attention), ("norm", norm)) if mode}
        return self.run("TAVInflateModel", model=model or self.model, **changes)

    def apply(self, weights: Any, query: float = 1.0, temporal: float = 1.0, model: Any = None) -> Any:
        """Apply Tuned Weights."""
        return self.run(
            "TAVApplyWeights",
            model=model or self.model,
            weights=weights,
            query_strength=query,
            temporal_strength=temporal,
        )

    def tune(self, model: Any = None, **changes: Any) -> tuple:
        """Tune on One Video for a few steps: model, weights, loss map."""
        settings = TUNING | {"filename_prefix": "workbench/tuned", "resume": False}
        inputs = {"model": model or self.model, "latent": self.latent, "positive": self.source}
        return self.run("TAVTune", **(inputs | settings | changes))

    def invert(self, model: Any, steps: int = STEPS, **changes: Any) -> dict:
        """DDIM Inversion."""
        inputs = {"conditioning": self.empty, "latent": self.latent, "steps": steps}
        return self.run("TAVDDIMInversion", model=model, **(inputs | changes))

    def sample(self, model: Any, latent: dict, steps: int = STEPS, **changes: Any) -> Tensor:
        """The latents of Sample Edited Video."""
        inputs = {"positive": self.edit, "negative": self.empty, "latent": latent, "steps": steps, "cfg": 4.0}
        return self.run("TAVSample", model=model, **(inputs | changes))["samples"]

    @torch.inference_mode()
    def draw(
        self,
        model: Any,
        steps: int = STEPS,
        cfg: float = 4.0,
        frames: int = 3,
        callback: Callable | None = None,
    ) -> Tensor:
        """Core's euler sampler from seeded noise over all frames: what the model does, in a few steps."""
        sampling = importlib.import_module("comfy.sample")
        noise = torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        return sampling.sample(
            model,
            noise,
            steps,
            cfg,
            "euler",
            "normal",
            self.edit,
            self.empty,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=5,
            callback=callback,
        )

    @torch.inference_mode()
    def answer(self, model: Any, timestep: int, cfg: float = 1.0, frames: int = 3) -> tuple[Tensor, Tensor]:
        """One evaluation through the whole sampler machinery: the network's input, and its answer (epsilon)."""
        samplers, sampling = (importlib.import_module(f"comfy.{name}") for name in ("samplers", "sample"))
        sigma = model.get_model_object("model_sampling").sigmas[timestep].cpu()
        noise = torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(6))
        denoised = sampling.sample_custom(
            model,
            noise,
            cfg,
            samplers.sampler_object("euler"),
            torch.stack([sigma, sigma * 0]),
            self.edit,
            self.empty,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=0,
        )
        denoised = model.model.process_latent_in(denoised)
        # The sampler scales its noise to sigma, or to sqrt(1 + sigma^2) where sigma is the schedule's highest.
        return noise * sigma / (1 + sigma**2).sqrt(), (noise * sigma - denoised) / sigma

    def weights(self, seed: int = 0, scale: float = 0.05, **metadata: Any) -> Any:
        """Made-up tuned weights that fit the model and are plainly seen; no tuning needed."""
        files, names = self.pack("tav_core.files.weights"), self.pack("nodes.comfy.model.blocks")
        config = self.model.model.model_config.unet_config
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        blocks = names.blocks_at(self.model.model.diffusion_model, names.block_paths(config))
        for name, block in blocks.items():
            for attention in ("attn1", "attn2"):
                shape = getattr(block, attention).to_q.weight.shape
                tensors[f"{name}.{attention}.to_q.diff"] = torch.randn(shape, generator=generator) * scale
            dim = block.attn1.to_q.weight.shape[1]
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                tensors[f"{name}.attn_temp.{part}.weight"] = (
                    torch.randn(dim, dim, generator=generator) / dim**0.5
                )
            tensors[f"{name}.attn_temp.to_out.0.bias"] = torch.randn(dim, generator=generator) * scale
        return files.TunedWeights(tensors, files.TunedMetadata(**metadata))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference over that of the second."""
    return float((ours - theirs).double().norm() / theirs.double().norm())


def assert_plain(message: str, *words: str) -> None:
    """One readable sentence or two that hold every one of `words`, and nothing of a program's insides."""
    message = message.strip()
    assert "\n" not in message and len(message) < 400, message
    for word in words:
        assert word in message, message
    for inside in ("Traceback", "Error:", "NoneType", "object at 0x", "torch."):
        assert inside not in message, message
