"""A tuned model among other nodes of core that work on a MODEL, in a real server."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from graphs import base, invert, link, node, sample, save_latent
from safetensors.torch import load_file, save_file
from torch import Tensor
from workbench import Workbench, distance

from devkit.client import Client
from devkit.server import Server

WEIGHTS = "composition/made.safetensors"
LORA = "composition.safetensors"
_names = itertools.count()


@pytest.fixture(scope="module")
def files(pack, tiny_checkpoint: Path, server: Server) -> None:
    """A tuned-weights file and a LoRA file in the server's folders."""
    bench = Workbench(pack, tiny_checkpoint)
    bench.weights(scale=0.02).save(server.base / "models" / "tune_a_video" / WEIGHTS)
    generator = torch.Generator().manual_seed(8)
    tensors = {}
    for name, weight in bench.model.model.diffusion_model.state_dict().items():
        if name.endswith((".attn1.to_q.weight", ".attn2.to_q.weight", ".attn1.to_v.weight")):
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            tensors[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.1
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / LORA)


@pytest.fixture
def draw(files: None, client: Client, server: Server):
    """draw(graph, name) is the latent that a node of the graph puts out."""

    def run(graph: dict, name: str) -> Tensor:
        stem = f"composition/out{next(_names)}"
        client.run(graph | {"save": save_latent(link(name), stem)}).check()
        return load_file(next((server.base / "output").glob(f"{stem}_*.latent")))["latent_tensor"]

    return run


def apply(model: list) -> dict:
    return node(
        "TAVApplyWeights", model=model, weights=link("weights"), query_strength=1.0, temporal_strength=0.5
    )


def tuned_graph() -> dict:
    return base() | {"weights": node("TAVLoadWeights", file=WEIGHTS), "tuned": apply(link("ckpt"))}


def noise(model: str, **changes) -> dict:
    """Sampling from seeded noise: no inversion needed."""
    return sample(link(model), link("latent"), steps=2, start="random noise", **changes)


def test_core_s_model_patches_and_regional_prompts_work_together(draw) -> None:
    graph = tuned_graph() | {
        "freeu": node("FreeU", model=link("tuned"), b1=1.1, b2=1.2, s1=0.9, s2=0.2),
        "pag": node("PerturbedAttentionGuidance", model=link("freeu"), scale=3.0),
        "hypertile": node(
            "HyperTile", model=link("pag"), tile_size=32, swap_size=2, max_depth=2, scale_depth=False
        ),
        "tome": node("TomePatchModel", model=link("hypertile"), ratio=0.3),
        "area": node(
            "ConditioningSetArea", conditioning=link("edit"), width=64, height=64, x=0, y=0, strength=1.0
        ),
        "half": node("SolidMask", value=1.0, width=128, height=128),
        "masked": node(
            "ConditioningSetMask",
            conditioning=link("source"),
            mask=link("half"),
            strength=0.7,
            set_cond_area="default",
        ),
        "both": node("ConditioningCombine", conditioning_1=link("area"), conditioning_2=link("masked")),
    }
    graph["clip"]["inputs"] |= {"width": 128, "height": 128}
    graph["noise"] = invert(link("tome"), steps=2)
    graph["edited"] = sample(link("tome"), link("noise"), steps=2, positive=link("both"))
    everything = draw(graph, "edited")
    assert everything.shape == (3, 4, 16, 16)
    assert bool(everything.isfinite().all())
    graph["edited"]["inputs"]["model"] = link("tuned")
    assert not torch.equal(draw(graph, "edited"), everything)


@pytest.mark.parametrize("patch", ["freeu", "pag", "hypertile", "tome"])
def test_each_patch_is_seen_on_a_tuned_model(draw, patch: str) -> None:
    patches = {
        "freeu": node("FreeU", model=link("tuned"), b1=1.5, b2=1.6, s1=0.5, s2=0.2),
        "pag": node("PerturbedAttentionGuidance", model=link("tuned"), scale=3.0),
        "hypertile": node(
            "HyperTile", model=link("tuned"), tile_size=32, swap_size=1, max_depth=2, scale_depth=False
        ),
        "tome": node("TomePatchModel", model=link("tuned"), ratio=0.5),
    }
    graph = tuned_graph() | {"patched": patches[patch], "plain": noise("tuned"), "other": noise("patched")}
    graph["clip"]["inputs"] |= {"width": 128, "height": 128}
    plain, other = draw(graph, "plain"), draw(graph, "other")
    assert bool(other.isfinite().all())
    assert not torch.equal(plain, other)


def windows(length: int) -> dict:
    return node(
        "ContextWindowsManual",
        model=link("tuned"),
        context_length=length,
        context_overlap=1,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        freenoise=False,
        cond_retain_index_list="",
        split_conds_to_windows=False,
        latent_retain_index_list="",
        causal_window_fix=True,
    )


def test_context_windows_over_the_frames(draw) -> None:
    graph = tuned_graph() | {"plain": noise("tuned")}
    graph["clip"]["inputs"]["frame_count"] = 6
    plain = draw(graph, "plain")
    short = draw(graph | {"windows": windows(3), "edited": noise("windows")}, "edited")
    assert short.shape == plain.shape and bool(short.isfinite().all())
    assert not torch.equal(short, plain)
    # One window over the whole clip is no window.
    whole = draw(graph | {"windows": windows(6), "edited": noise("windows")}, "edited")
    assert distance(whole, plain) < 1e-6


def test_a_lora_before_or_after_gives_the_same(draw) -> None:
    def lora(model: list) -> dict:
        return node("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=0.8)

    before = tuned_graph() | {
        "lora": lora(link("ckpt")),
        "model": apply(link("lora")),
        "edited": noise("model"),
    }
    after = tuned_graph() | {"model": lora(link("tuned")), "edited": noise("model")}
    without = tuned_graph() | {"edited": noise("tuned")}
    first, second = draw(before, "edited"), draw(after, "edited")
    assert distance(first, second) < 1e-4
    assert distance(draw(without, "edited"), first) > 1e-2
