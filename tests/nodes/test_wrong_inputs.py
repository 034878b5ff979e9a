"""Wrong combinations: one plain sentence that names the input and the remedy, and the server goes on."""

from __future__ import annotations

import importlib
import itertools

import pytest
import torch
from graphs import base, inflate, invert, link, node, sample, save_latent, tune
from torch import nn
from workbench import Workbench, assert_plain

from devkit.client import Client, PromptRejected

_nonces = itertools.count(1)
TINY = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "num_heads": 2,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 96,
    "legacy": False,
}


class Transformer(nn.Module):
    """A diffusion model that is no UNet."""

    def __init__(self, **config: object) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.dtype = torch.float32


@pytest.fixture(scope="module")
def foreign(bench: Workbench):
    """foreign(kind) is a MODEL that the method cannot work on."""
    kinds = importlib.import_module("comfy.model_base")
    supported = importlib.import_module("comfy.supported_models")
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher

    def make(kind: str):
        changes = {
            "SDXL": {"num_classes": "sequential", "adm_in_channels": 16},
            "inpainting": {"in_channels": 9},
            "depth": {"in_channels": 5},
        }
        config = supported.SD15({**TINY, **changes.get(kind, {})})
        config.unet_config = {**TINY, **changes.get(kind, {})}
        config.set_inference_dtype(torch.float32, None)
        if kind == "DiT":
            model = kinds.BaseModel(config, kinds.ModelType.EPS, "cpu", unet_model=Transformer)
        else:
            model = (kinds.SDXL if kind == "SDXL" else kinds.BaseModel)(config, kinds.ModelType.EPS, "cpu")
        return patcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))

    return make


def refusal(work, *arguments, **inputs) -> str:
    with pytest.raises(ValueError) as caught:
        work(*arguments, **inputs)
    return str(caught.value)


@pytest.mark.parametrize("user", ["inflate", "tune", "apply", "invert", "sample", "sigmas"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("SDXL", ["SDXL"]),
        ("inpainting", ["9 latent channels"]),
        ("depth", ["5 latent channels"]),
        ("DiT", ["without Stable Diffusion's UNet"]),
    ],
)
def test_models_of_other_kinds_are_refused_by_every_node(
    bench: Workbench, foreign, kind: str, words: list[str], user: str
) -> None:
    model = foreign(kind)
    works = {
        "inflate": lambda: bench.inflate(model),
        "tune": lambda: bench.tune(model),
        "apply": lambda: bench.apply(bench.weights(), model=model),
        "invert": lambda: bench.invert(model),
        "sample": lambda: bench.sample(model, bench.latent),
        "sigmas": lambda: bench.run("TAVDDIMSigmas", model=model, steps=4, direction="sampling"),
    }
    assert_plain(refusal(works[user]), "'model'", "load a Stable Diffusion 1.x or 2.x checkpoint", *words)


def test_a_model_with_another_sampling_is_not_tuned(bench: Workbench) -> None:
    patch = bench.core("comfy_extras.nodes_model_advanced", "ModelSamplingDiscrete")
    for sampling in ("lcm", "x0"):
        model = bench.run(patch, model=bench.model, sampling=sampling, zsnr=False)
        assert_plain(refusal(bench.tune, model), "'model'", "remove sampling patches")


def clean_clip(bench: Workbench) -> dict:
    """Latents as wide as a real VAE's."""
    samples = bench.latent["samples"]
    return {"samples": bench.model.model.process_latent_out(samples / samples.std())}


def test_a_clean_clip_is_no_start_for_sampling(bench: Workbench) -> None:
    message = refusal(bench.sample, bench.model, clean_clip(bench), steps=50)
    assert_plain(message, "'latent'", "DDIM Inversion", "'start'")


def test_a_clip_that_core_sampled_is_clean_again(bench: Workbench) -> None:
    """Core's samplers keep what they do not know in a LATENT, our mark too."""
    clean = {**clean_clip(bench), bench.pack("nodes.comfy.sampling.ddim").INVERTED: (13.0, 1.0, 0.0)}
    message = refusal(bench.sample, bench.model, clean, steps=50)
    assert_plain(message, "'latent'", "DDIM Inversion")


def test_latents_of_other_models_are_refused(bench: Workbench) -> None:
    for shape in ((3, 16, 8, 8), (1, 4, 3, 8, 8)):
        other = {"samples": torch.zeros(shape)}
        for work in (bench.invert, bench.tune, lambda model, latent: bench.sample(model, latent)):
            message = refusal(work, bench.model, latent=other)
            assert_plain(message, "'latent'", str(list(shape)), "Stable Diffusion 1.x or 2.x")


def test_one_frame_is_no_clip_to_tune_on(bench: Workbench) -> None:
    single = {"samples": bench.latent["samples"][:1]}
    assert_plain(refusal(bench.tune, latent=single), "'latent'", "frame_count")
    assert bench.invert(bench.inflate(), latent=single)["samples"].shape[0] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(bench: Workbench, value: float) -> None:
    samples = bench.latent["samples"].clone()
    samples[1, 2, 3, 4] = value
    for work in (bench.invert, bench.tune, lambda model, latent: bench.sample(model, latent)):
        assert_plain(refusal(work, bench.model, latent={"samples": samples}), "'latent'", "--fp32-vae")


def test_conditioning_for_another_number_of_frames_is_refused(bench: Workbench) -> None:
    def repeated(times: int) -> list:
        return [[bench.edit[0][0].repeat(times, 1, 1), bench.edit[0][1]]]

    noise = bench.invert(bench.model)
    for name, work in (
        ("conditioning", lambda prompt: bench.invert(bench.model, conditioning=prompt)),
        ("positive", lambda prompt: bench.sample(bench.model, noise, positive=prompt)),
        ("negative", lambda prompt: bench.sample(bench.model, noise, negative=prompt)),
        ("positive", lambda prompt: bench.tune(positive=prompt)),
        ("negative", lambda prompt: bench.invert(bench.model, cfg=2.0, negative=prompt)),
    ):
        assert_plain(refusal(work, repeated(2)), f"'{name}'", "2 frames", "3")
        work(repeated(3))  # one per frame is fine


def test_an_empty_conditioning_is_refused(bench: Workbench) -> None:
    assert_plain(refusal(bench.tune, positive=[]), "'positive'", "CLIP Text Encode")


def test_guided_inversion_needs_a_negative_prompt(bench: Workbench) -> None:
    assert_plain(refusal(bench.invert, bench.model, cfg=2.0), "'cfg'", "'negative'")


def stochastic_inversion(eta: object) -> dict:
    return base() | {
        "sampler": node("TAVDDIMSampler", direction="inversion", eta=eta),
        "sigmas": node("TAVDDIMSigmas", model=link("ckpt"), steps=2, direction="inversion"),
        "noise": node("DisableNoise"),
        "guider": node("BasicGuider", model=link("ckpt"), conditioning=link("empty")),
        "out": node(
            "SamplerCustomAdvanced",
            noise=link("noise"),
            guider=link("guider"),
            sampler=link("sampler"),
            sigmas=link("sigmas"),
            latent_image=link("latent"),
        ),
        "save": save_latent(link("out"), "wrong/stochastic"),
    }


def good() -> dict:
    return base() | {
        "inflated": inflate(link("ckpt")),
        "noise": invert(link("inflated"), steps=next(_nonces)),
        "save": save_latent(link("noise"), "wrong/good"),
    }


def test_a_stochastic_sampler_cannot_be_inverted(client: Client) -> None:
    with pytest.raises(PromptRejected) as caught:
        client.run(stochastic_inversion(0.5))
    message = caught.value.errors["sampler"][0][1]
    assert "'eta'" in message and "must be 0 for inversion" in message
    # Over a connection the value is known only when the graph runs.
    connected = stochastic_inversion(link("number")) | {"number": node("PrimitiveFloat", value=0.5)}
    error = client.run(connected).error
    assert error is not None and error.node == "sampler"
    assert_plain(error.message, "'eta'", "must be 0")
    client.run(good()).check()


def test_names_may_come_over_connections(client: Client) -> None:
    prefix = f"wrong/connected{next(_nonces)}"
    graph = base() | {
        "name": node("PrimitiveString", value=prefix),
        "tuned": tune(link("ckpt"), steps=1, filename_prefix=link("name"), seed=next(_nonces)),
        "save": node(
            "TAVSaveWeights", weights=link("tuned", 1), filename_prefix=link("name"), precision="fp32 (exact)"
        ),
    }
    client.run(graph).check()
    graph["name"]["inputs"]["value"] = "../escape"
    error = client.run(graph).error
    assert error is not None
    assert_plain(error.message, "'filename_prefix'", "models/tune_a_video")


@pytest.mark.parametrize(
    ("broken", "words", "graph"),
    [
        (
            "edited",
            ["'latent'", "DDIM Inversion"],
            lambda: {"edited": sample(link("ckpt"), link("latent"), steps=50)},
        ),
        ("tuned", ["'latent'", "frame_count"], lambda: {"tuned": tune(link("ckpt"))}),
        ("noise", ["'cfg'", "'negative'"], lambda: {"noise": invert(link("ckpt"), cfg=2.0)}),
    ],
    ids=["clean clip to Sample", "one frame to Tune", "guided inversion without negative"],
)
def test_the_server_says_it_and_goes_on(client: Client, broken: str, words: list[str], graph) -> None:
    prompt = base(frames=1 if broken == "tuned" else 3) | graph()
    if broken == "tuned":
        prompt["save"] = node(
            "TAVSaveWeights", weights=link("tuned", 1), filename_prefix="never", precision="fp32 (exact)"
        )
    else:
        prompt["save"] = save_latent(link(broken), "wrong/never")
    error = client.run(prompt).error
    assert error is not None and error.node == broken
    assert_plain(error.message, *words)
    client.run(good()).check()


def test_numbers_out_of_range_never_reach_a_node(client: Client) -> None:
    for changes in ({"steps": 0}, {"steps": 1001}, {"cfg": 0.5}):
        prompt = base() | {"noise": invert(link("ckpt"), **changes)}
        prompt["save"] = save_latent(link("noise"), "wrong/never")
        with pytest.raises(PromptRejected) as caught:
            client.run(prompt)
        assert next(iter(changes)) in str(caught.value)


@pytest.mark.not_on_second_device("makes a MODEL that has no weights there")
def test_packed_weights_are_not_tuned(bench: Workbench, foreign) -> None:
    """GGUF and its like keep weights as whole numbers that only their own loader can read."""
    model = foreign("plain")
    query = model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1.to_q
    query.weight = nn.Parameter(torch.zeros(query.weight.shape, dtype=torch.uint8), requires_grad=False)
    assert_plain(refusal(bench.tune, model), "'model'", "GGUF", "fp16, bf16, fp32 or fp8")


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this PyTorch has no float8")
@pytest.mark.not_on_second_device("weights stay there as the file has them")
def test_a_base_in_fp8_is_tuned_and_stays_what_it_was(bench: Workbench, tiny_checkpoint) -> None:
    model = bench.load(tiny_checkpoint, dtype=torch.float8_e4m3fn)[0]
    before = {name: tensor.clone() for name, tensor in model.model.diffusion_model.state_dict().items()}
    assert {tensor.dtype for tensor in before.values()} == {torch.float8_e4m3fn}
    tuned, weights, loss = bench.tune(model, steps=2)
    assert all(0 < value < 100 for value in loss["loss"])
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    assert any(bool(tensor.any()) for name, tensor in weights.tensors.items() if name.endswith(".diff"))
    after = model.model.diffusion_model.state_dict()
    assert all(torch.equal(after[name].float(), tensor.float()) for name, tensor in before.items())
    assert bool(bench.draw(tuned).isfinite().all())


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 64), (257, 130)], ids=str)
def test_a_mask_of_another_size_is_fitted_to_the_clip(bench: Workbench, size: tuple[int, int]) -> None:
    noise = bench.invert(bench.inflate(), keep_trajectory=True)
    mask = torch.zeros(1, *size)
    kept = bench.sample(bench.inflate(), noise, mask=mask)
    assert float((kept - bench.latent["samples"]).abs().max()) < 1e-4


def test_a_mask_of_another_number_of_frames_is_refused(bench: Workbench) -> None:
    noise = bench.invert(bench.inflate(), keep_trajectory=True)
    message = refusal(bench.sample, bench.inflate(), noise, mask=torch.ones(2, 64, 64))
    assert_plain(message, "'mask'", "2 frames", "3", "one per frame")
