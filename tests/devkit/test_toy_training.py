"""Training on the toy dataset: it resumes, its files load, and its measures tell a figure from a smear."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
cv2 = pytest.importorskip("cv2")

from devkit.toy import diffusion, lora, reading, report, shards, vae, variants  # noqa: E402
from devkit.toy.agreement import agreement, compare, fit_figure, scenes_read  # noqa: E402
from devkit.toy.captions import caption_of  # noqa: E402
from devkit.toy.checkpoint import Models, load_checkpoint, save_checkpoint  # noqa: E402
from devkit.toy.classifier import Classifier, Reading, load_classifier, save_classifier  # noqa: E402
from devkit.toy.export import models_in_training  # noqa: E402
from devkit.toy.figures import FIGURES, LOOKS  # noqa: E402
from devkit.toy.grounds import GROUNDS  # noqa: E402
from devkit.toy.models import EOS_TOKEN, build_text_encoder, build_unet, build_vae  # noqa: E402
from devkit.toy.pool import scenes, to_tensor  # noqa: E402
from devkit.toy.poses import VERBS  # noqa: E402
from devkit.toy.sample import prompts, sheet, text_to_image  # noqa: E402
from devkit.toy.scene import render  # noqa: E402
from devkit.toy.shards import Captioned, captions_tokens  # noqa: E402
from devkit.toy.styles import STYLES  # noqa: E402
from devkit.toy.text import SmallVocabulary, disturb  # noqa: E402
from devkit.toy.tokens import USED, tokenize  # noqa: E402
from devkit.toy.training import Settings, averaged_weights, fit  # noqa: E402

FEW = Settings(steps=2, batch=2, lr=1e-3, warmup=1, seed=4)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return Models(build_unet().eval(), SmallVocabulary().full(), build_vae().eval())


@pytest.fixture(scope="module")
def data():
    pool = scenes(6, 3)
    latents = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(1)).half()
    return Captioned(latents, captions_tokens([caption_of(scene) for scene in pool]))


def truth(pool):
    """Return what a perfect classifier says of scenes with the given pictures."""
    shown = [render(scene) for scene in pool]
    labels = reading.labels_of(pool, [picture.joints for picture in shown])
    sizes = {"figure": len(FIGURES), "look": LOOKS, "verb": len(VERBS), "facing": 2}
    one_hot = torch.nn.functional.one_hot
    slots = {name: one_hot(labels[name].clamp(min=0), size).float() for name, size in sizes.items()}
    there = (labels["figure"] >= 0).float()
    ground, style = one_hot(labels["ground"], len(GROUNDS)), one_hot(labels["style"], len(STYLES))
    return shown, Reading(there, slots, labels["joints"], ground, style)


def test_what_is_read_right_is_rendered_as_it_was():
    pool = [replace(scene, front=None) for scene in scenes(8, 11, pair_share=0.4)]
    shown, read = truth(pool)
    for picture, (scene, misfit) in zip(shown, scenes_read(read), strict=True):
        assert misfit < 1
        assert [f.name for f in scene.figures] == [
            picture.scene.figures[i].name for i in np.argsort(picture.joints[:, 2, 0])
        ]
        drawn = render(scene)
        inside = drawn.masks.any(axis=0)
        crisp, like = compare(picture.image, drawn.image, inside)
        smear = cv2.GaussianBlur(picture.image, (0, 0), 7)
        blurred, unlike = compare(smear, drawn.image, inside)
        if len(scene.figures) == 1:
            assert crisp > blurred + 6
            assert like > unlike + 0.2


def test_a_figure_is_found_again_from_its_joints():
    figure = scenes(1, 21, pair_share=0)[0].figures[0]
    joints = figure.place()(figure.rig().joints)
    found, misfit = fit_figure(
        figure.name, figure.look, figure.verb, figure.facing, np.stack([joints.real, joints.imag], 1)
    )
    assert misfit < 1
    assert abs(found.size - figure.size) < 0.03
    apart = (found.phase - figure.phase + 0.5) % 1 - 0.5
    other = replace(found, phase=figure.phase).rig().joints
    assert abs(apart) < 0.06 or abs(found.rig().joints - other).mean() < 2


def test_an_untrained_classifier_learns_and_comes_back_from_its_file(tmp_path):
    torch.manual_seed(1)
    model = reading.train_classifier(tmp_path, replace(FEW, steps=1))
    save_classifier(model, tmp_path / "classifier.safetensors")
    images = np.stack([render(scene).image for scene in scenes(2, 5)])
    found = agreement(load_classifier(tmp_path / "classifier.safetensors"), images)
    assert len(found) == 2
    assert all(np.isfinite(one.psnr) for one in found)
    with pytest.raises(ValueError, match="frames must be"):
        Classifier()(torch.zeros(2, 3, 128, 128))


def test_a_killed_training_goes_on_where_it_was(tmp_path):
    def run(folder, *lengths):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3))
        for steps in lengths:
            torch.manual_seed(0)
            weight = torch.nn.Parameter(torch.randn(4, 3))

            def loss(_step, weight=weight):
                return (weight - torch.randn(4, 3)).square().mean()

            constant = Settings(steps=steps, batch=1, lr=0.1, lr_end=1.0, warmup=2)
            fit("small", {"weight": weight}, loss, constant, folder)
        return averaged_weights("small", folder)["weight"]

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    torch.testing.assert_close(run(tmp_path / "a", 12), run(tmp_path / "b", 5, 12))


def test_the_base_trains_from_shards_and_is_exported(tmp_path, monkeypatch, models):
    monkeypatch.setattr(shards, "SHARD", 4)
    fit("vae", dict(build_vae().named_parameters()), lambda _: None, replace(FEW, steps=0), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"devkit\.toy\.shards"):
        shards.load_shards(tmp_path)
    for index in range(2):
        shards.make_shard(models.vae, index, tmp_path)
    found = shards.load_shards(tmp_path)
    assert found.latents.shape == (8, 4, 16, 16)
    assert found.tokens.shape == (8, 77)
    diffusion.train_base(found, tmp_path, deepcopy(models), FEW)
    diffusion.anneal_base(found, tmp_path, replace(FEW, steps=1))
    file = tmp_path / "toy.safetensors"
    save_checkpoint(models_in_training(tmp_path, "anneal"), file)
    assert file.stat().st_size < 32e6
    pictures = text_to_image(load_checkpoint(file), ["a man is waving on the beach"], 1, steps=2)
    assert pictures.shape == (1, 128, 128, 3)


def test_noise_and_velocity_give_a_loss(models, data):
    text = SmallVocabulary(build_text_encoder())
    for unet in (models.unet, variants.in_second_layout(models.unet)):
        value = diffusion.noise_loss(unet, text, data, FEW)(0)
        assert value.isfinite()
        assert 0 < value < 50


def test_the_autoencoder_learns_on_and_its_encoder_may_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(vae, "POOL", 12)
    model = build_vae()
    vae.train_vae(model, tmp_path, replace(FEW, steps=1))
    before = model.encoder.layers[0].weight.clone()
    after = model.decoder.layers[-1].weight.clone()
    vae.train_decoder(model, tmp_path, FEW)
    assert torch.equal(model.encoder.layers[0].weight, before)
    assert not torch.equal(model.decoder.layers[-1].weight, after)
    image = to_tensor(np.stack([render(scene).image for scene in scenes(2, 1)]))
    assert vae.reconstruction_psnr(model, image).shape == (2,)


def test_variants_are_written_in_their_formats(tmp_path, monkeypatch, models, data):
    monkeypatch.setattr(variants, "POOL", 4)
    monkeypatch.setattr(lora, "POOL", 4)
    base, dreambooth = tmp_path / "toy.safetensors", tmp_path / "dreambooth.safetensors"
    save_checkpoint(models, base)
    variants.train_dreambooth(models, tmp_path, dreambooth, FEW)
    whole = tmp_path / "whole.safetensors"
    variants.assemble(base, dreambooth, whole)
    rows = [model.text_encoder.get_input_embeddings().weight for model in map(load_checkpoint, (base, whole))]
    changed = (rows[0] != rows[1]).any(dim=1).nonzero().flatten().tolist()
    assert set(changed) <= set(USED)

    lora.train_lora(models, tmp_path, tmp_path / "lora.safetensors", FEW)
    unet = build_unet()
    before = unet.mid_block.resnets[0].conv1.weight.clone()
    lora.apply_lora(unet, tmp_path / "lora.safetensors", 10.0)
    assert not torch.equal(unet.mid_block.resnets[0].conv1.weight, before)

    control = tmp_path / "controlnet.safetensors"
    variants.train_controlnet(models, tmp_path, control, FEW)
    assert variants.load_controlnet(models, control).config.cross_attention_dim == 96
    hint = variants.skeleton_hint(scenes(1, 2)[0])
    assert hint.shape == (128, 128, 3)
    assert 0.005 < (hint.max(axis=2) > 0.5).mean() < 0.2

    variants.train_second(models, data, tmp_path, tmp_path / "second.safetensors", FEW)
    variants.assemble(base, tmp_path / "second.safetensors", whole)
    assert load_checkpoint(whole).unet.config.use_linear_projection


def test_unknown_words_and_empty_captions_are_trained(data):
    rng = np.random.default_rng(0)
    many = torch.stack([tokenize("a man is waving on the beach")] * 400)
    disturbed = disturb(many, rng)
    empty = (disturbed[:, 1] == EOS_TOKEN).float().mean()
    strange = (disturbed == 0).any(dim=1).float().mean()
    assert 0.05 < empty < 0.16
    assert 0.09 < strange < 0.22
    with pytest.raises(KeyError):
        tokenize("a cat is waving")


def test_the_whole_vocabulary_gives_the_same_context():
    text = SmallVocabulary().eval()
    tokens = tokenize("a robot and a panda are dancing in the forest, sketch style")[None]
    with torch.no_grad():
        torch.testing.assert_close(text(tokens), text.full()(tokens).last_hidden_state)


def test_the_report_measures_what_it_is_given(models):
    torch.manual_seed(2)
    classifier = Classifier().eval()
    ceiling = report.ceiling_figures(models, classifier, count=2)
    figures, images = report.sampling_figures(models, classifier, 2, ceiling["psnr_median"])
    assert images.shape == (2, 128, 128, 3)
    assert 0 <= figures["all"] <= 1
    assert report.classifier_figures(classifier, count=3)["pictures"] == 3
    assert report.vae_figures(models, count=2)["psnr_mean"] > 0
    assert sheet(images, columns=4).shape == (128, 512, 3)
    assert prompts(3, 1) == prompts(3, 1)
