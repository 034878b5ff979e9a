"""What the example workflows' results have to be, by number."""

from __future__ import annotations

import re

import pytest
import torch
from runs import FRAMES, STEPS, Runs
from torch import Tensor

from devkit.gallery.kinds import CHECKPOINT
from devkit.workflow import find, find_one, set_inputs
from tav_core.metrics.psnr import psnr

EDIT = "a cat on the beach"
"""The quickstart's."""

AS_TUNED = {"attention": "first+previous", "norm": "joint"}
"""How the workflows inflate."""


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).double().norm() / theirs.double().norm())


def node(class_type: str, **inputs: object) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def say(prompt: dict, text: str) -> None:
    set_inputs(prompt, {"Edit prompt": {"text": text}})


def replace_links(prompt: dict, old: list, new: list) -> None:
    """Let everything that takes `old` take `new`."""
    for content in prompt.values():
        for name, value in content["inputs"].items():
            if value == old:
                content["inputs"][name] = new


def test_core_s_custom_sampling_is_the_quickstart_bit_for_bit(runs: Runs) -> None:
    assert torch.equal(runs.of("custom-sampling").latents(), runs.of("quickstart").latents())


def test_a_saved_file_applied_is_the_tuned_model_bit_for_bit(runs: Runs) -> None:
    again = runs.changed("apply-saved-weights", lambda prompt: say(prompt, EDIT))
    assert torch.equal(again.latents(), runs.of("quickstart").latents())
    assert not torch.equal(runs.of("apply-saved-weights").latents(), again.latents())


def test_strength_zero_is_the_untuned_model_bit_for_bit(runs: Runs) -> None:
    def without(prompt: dict) -> None:
        apply = find_one(prompt, "TAVApplyWeights")
        model = prompt[apply]["inputs"]["model"]
        prompt[apply] = node("TAVInflateModel", model=model, **AS_TUNED)

    off = {"TAVApplyWeights": {"query_strength": 0.0, "temporal_strength": 0.0}}
    zero = runs.changed("apply-saved-weights", lambda prompt: set_inputs(prompt, off))
    untuned = runs.changed("apply-saved-weights", without)
    assert torch.equal(zero.latents(), untuned.latents())
    assert not torch.equal(runs.of("apply-saved-weights").latents(), untuned.latents())


def test_official_folders_give_the_weights_back(runs: Runs) -> None:
    again = runs.changed("load-official", lambda prompt: say(prompt, EDIT))
    assert distance(again.latents(), runs.of("quickstart").latents()) < 1e-5
    saved = runs.of("save-official")
    texts = [saved.text(kind) for kind in ("TAVSaveWeights", "TAVSaveOfficial", "TAVSaveQueryLora")]
    assert all(text.startswith("saved ") for text in texts)
    folder = runs.server.base / "models" / "tune_a_video"
    half, whole = (
        (folder / name).stat().st_size for name in ("small_00001.safetensors", "quickstart_00001.safetensors")
    )
    assert half < 0.6 * whole


def test_the_queries_saved_as_a_lora_do_what_they_do_in_the_file(runs: Runs) -> None:
    """Core's LoraLoader with that file, against the tuned weights without their temporal layers."""
    name = runs.of("save-official").text("TAVSaveQueryLora").removeprefix("saved ")

    def as_lora(prompt: dict) -> None:
        apply = find_one(prompt, "TAVApplyWeights")
        model = prompt[apply]["inputs"]["model"]
        prompt["lora"] = node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
        prompt[apply] = node("TAVInflateModel", model=["lora", 0], **AS_TUNED)

    queries = {"TAVApplyWeights": {"temporal_strength": 0.0}}
    ours = runs.changed("apply-saved-weights", lambda prompt: set_inputs(prompt, queries))
    core = runs.changed("apply-saved-weights", as_lora)
    assert "not loaded" not in core.log
    assert distance(core.latents(), ours.latents()) < 1e-4


def test_a_lora_before_or_after_the_tuned_weights_is_the_same(runs: Runs) -> None:
    def before(prompt: dict) -> None:
        lora, tune = find_one(prompt, "LoraLoader"), find_one(prompt, "TAVTune")
        replace_links(prompt, [lora, 0], ["applied", 0])
        prompt[lora]["inputs"]["model"] = [find_one(prompt, "CheckpointLoaderSimple"), 0]
        full = {"query_strength": 1.0, "temporal_strength": 1.0}
        prompt["applied"] = node("TAVApplyWeights", model=[lora, 0], weights=[tune, 1], **full)

    off = {"LoraLoader": {"strength_model": 0.0, "strength_clip": 0.0}}
    after = runs.of("lora").latents()
    assert distance(runs.changed("lora", before).latents(), after) < 1e-4
    assert distance(runs.changed("lora", lambda prompt: set_inputs(prompt, off)).latents(), after) > 1e-2


def test_a_personalised_checkpoint_draws_otherwise_than_the_base(runs: Runs) -> None:
    on_base = {"Personalised checkpoint": {"ckpt_name": CHECKPOINT}}
    variant, base = (
        runs.of("dreambooth"),
        runs.changed("dreambooth", lambda prompt: set_inputs(prompt, on_base)),
    )
    assert "tuned on another base model" not in base.log
    assert distance(variant.latents(), base.latents()) > 1e-2


def test_many_edits_share_one_tuning_and_one_inversion(runs: Runs) -> None:
    run = runs.of("batch-of-edits")
    kinds = [run.prompt[node]["class_type"] for node in run.result.executed]
    assert kinds.count("TAVTune") == kinds.count("TAVDDIMInversion") == 1
    lines = run.prompt[find_one(run.prompt, "TAVEditList")]["inputs"]["edits"].splitlines()
    drawn = run.all_latents(find_one(run.prompt, "TAVSample"))
    assert len(drawn) == len(lines) >= 4
    assert all(distance(one, drawn[0]) > 0.05 for one in drawn[1:])
    for text, latents in zip(lines, drawn, strict=True):
        alone = runs.changed("quickstart", lambda prompt, text=text: say(prompt, text))
        assert torch.equal(alone.latents(), latents)
    videos = run.result.files(find_one(run.prompt, "SaveVideo"))
    assert len(videos) == len(lines)


def test_one_key_is_the_same_as_a_plain_prompt_and_several_are_not(runs: Runs) -> None:
    one = {"TAVPromptSchedule": {"prompts": f"0: {EDIT}"}}
    alone = runs.changed("per-frame-prompts", lambda prompt: set_inputs(prompt, one))
    assert distance(alone.latents(), runs.of("quickstart").latents()) < 1e-5
    assert distance(runs.of("per-frame-prompts").latents(), alone.latents()) > 0.05


def test_frames_under_their_own_prompts_differ_only_from_their_key_on(runs: Runs) -> None:
    def schedule(second: str) -> dict:
        text = f"0: a rabbit on the grass\n{FRAMES - 1}: {second}"
        values = {"TAVPromptSchedule": {"prompts": text, "blend": False}}
        values["TAVInflateModel"] = {"attention": "off", "norm": "per frame"}
        return values

    drawn = []
    for second in ("a rabbit on the grass", "a cat on the snow"):

        def change(prompt: dict, second: str = second) -> None:
            set_inputs(prompt, schedule(second))
            # The untuned model: without layers over time, frames know nothing of each other.
            tune, inflated = find_one(prompt, "TAVTune"), find_one(prompt, "TAVInflateModel")
            replace_links(prompt, [tune, 0], [inflated, 0])
            del prompt[tune]

        drawn.append(runs.changed("per-frame-prompts", change).latents())
    same, other = drawn
    assert distance(other[:-1], same[:-1]) < 1e-4
    assert distance(other[-1:], same[-1:]) > 0.05


def test_outside_of_the_mask_the_picture_is_the_source_s(runs: Runs) -> None:
    def add(prompt: dict) -> None:
        latent, loader = find_one(prompt, "VAEEncode"), find_one(prompt, "CheckpointLoaderSimple")
        inside = prompt[find_one(prompt, "TAVSample")]["inputs"]["mask"]
        prompt["vae"] = node("VAEDecode", samples=[latent, 0], vae=[loader, 2])
        prompt["shown"] = node("MaskToImage", mask=inside)
        prompt["mask"] = node("SaveImage", images=["shown", 0], filename_prefix="workflows/mask")

    run = runs.changed("mask", add)
    edited, source = run.frames(find(run.prompt, "VAEDecode")[0]), run.frames("vae")
    mask = run.pictures("mask")[..., 0]
    # The VAE's decoder looks two latent cells beyond the mask.
    reach = torch.nn.functional.max_pool2d(mask[:, None], 33, 1, 16)[:, 0] > 0.5
    assert 0.05 < float((~reach).float().mean()) < 0.95
    assert psnr(edited, source, ~reach) >= 35
    assert psnr(edited, source, mask > 0.5) < 25


def test_a_reconstruction_is_measured(runs: Runs) -> None:
    text = runs.of("reconstruction-check").text("TAVReconstruction")
    first, _, vae, against = (float(value) for value in re.findall(r"(-?[\d.]+) dB", text))
    assert 15 < first < vae
    assert against > first


def test_an_edit_is_measured(runs: Runs) -> None:
    text = runs.of("evaluate").text("TAVEvaluate")
    assert "frame consistency: not measured" in text
    (background,) = (float(value) for value in re.findall(r"background PSNR: (-?[\d.]+) dB", text))
    (flicker,) = (float(value) for value in re.findall(r"warping error x1000: ([\d.]+)", text))
    assert 10 < background < 40
    assert 0 < flicker < 100
    run = runs.of("evaluate")
    everywhere = psnr(run.frames(), run.source())
    assert background > everywhere, "the subject, which changed, is left out"


@pytest.mark.parametrize("off", ["Weights of the first clip", "Weights of the second clip"])
def test_of_two_tuned_clips_one_at_strength_zero_leaves_the_other(runs: Runs, off: str) -> None:
    def one_off(prompt: dict) -> None:
        zero = {"query_strength": 0.0, "temporal_strength": 0.0}
        set_inputs(prompt, {off: zero})

    def one_gone(prompt: dict) -> None:
        applied = find_one(prompt, off)
        replace_links(prompt, [applied, 0], prompt[applied]["inputs"]["model"])
        del prompt[applied]

    left = runs.changed("two-tuned-clips", one_off).latents()
    assert torch.equal(left, runs.changed("two-tuned-clips", one_gone).latents())
    assert distance(left, runs.of("two-tuned-clips").latents()) > 1e-4


def test_the_inversion_has_the_steps_that_the_mask_needs(runs: Runs) -> None:
    prompt = runs.of("mask").prompt
    inversion = prompt[find_one(prompt, "TAVDDIMInversion")]["inputs"]
    assert inversion["keep_trajectory"] is True
    assert inversion["steps"] == STEPS
