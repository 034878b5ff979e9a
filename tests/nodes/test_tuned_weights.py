"""Apply, Save and Load Tuned Weights: only inside their folder, only on models they fit, and they add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from graphs import base, invert, link, node, save_latent
from workbench import Workbench, assert_plain, distance

from devkit.client import Client, PromptRejected
from devkit.server import Server

OUTSIDE = [
    "../escape",
    "a/../../escape",
    "/absolute/escape",
    "..\\escape",
    "C:\\escape",
    "C:escape",
    "",
    "  ",
    "..",
    "a\0b",
]


@pytest.fixture(scope="module")
def folder(bench: Workbench) -> Path:
    return Path(bench.folders.get_folder_paths("tune_a_video")[0])


def save(bench: Workbench, weights, prefix: str, precision: str = "fp32 (exact)") -> None:
    bench.run("TAVSaveWeights", weights=weights, filename_prefix=prefix, precision=precision)


@pytest.mark.parametrize("prefix", OUTSIDE)
def test_names_outside_of_the_folder_are_refused(bench: Workbench, folder: Path, prefix: str) -> None:
    before = sorted(folder.parent.parent.rglob("*escape*"))
    with pytest.raises(ValueError) as caught:
        save(bench, bench.weights(), prefix)
    assert_plain(str(caught.value), "'filename_prefix'", "models/tune_a_video")
    assert_plain(bench.node("TAVSaveWeights").validate_inputs(filename_prefix=prefix), "'filename_prefix'")
    assert sorted(folder.parent.parent.rglob("*escape*")) == before


def test_weights_of_another_prediction_type_are_refused(bench: Workbench) -> None:
    with pytest.raises(ValueError) as caught:
        bench.apply(bench.weights(prediction_type="v_prediction"))
    assert_plain(str(caught.value), "'v_prediction', and this model's is 'epsilon'", "apply them to")
    # A sampling patch for noise prediction is none of its business.
    patch = bench.core("comfy_extras.nodes_model_advanced", "ModelSamplingDiscrete")
    bench.apply(bench.weights(), model=bench.run(patch, model=bench.model, sampling="lcm", zsnr=False))


def test_a_link_out_of_the_folder_is_not_followed(bench: Workbench, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link_out = folder / "elsewhere"
    try:
        link_out.symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets no links be made")
    try:
        for work in (
            lambda: save(bench, bench.weights(), "elsewhere/clip"),
            lambda: bench.tune(steps=1, filename_prefix="elsewhere/deeper/clip"),
        ):
            with pytest.raises(ValueError) as caught:
                work()
            assert_plain(str(caught.value), "'filename_prefix'", "models/tune_a_video")
    finally:
        link_out.unlink()
    assert not list(tmp_path.iterdir())


def test_files_are_numbered_and_never_overwritten(bench: Workbench, folder: Path) -> None:
    for seed in (1, 2):
        save(bench, bench.weights(seed), "numbered/deep/clip")
    first, second = sorted((folder / "numbered" / "deep").iterdir())
    assert (first.name, second.name) == ("clip_00001.safetensors", "clip_00002.safetensors")
    assert first.read_bytes() != second.read_bytes()


def test_the_list_holds_safetensors_only(bench: Workbench, folder: Path) -> None:
    save(bench, bench.weights(), "listed/clip")
    (folder / "listed" / "pickle.pt").write_bytes(b"")
    names = bench.pack("nodes.comfy.files").names()
    assert str(Path("listed") / "clip_00001.safetensors") in names
    save(bench, bench.weights(), "listed/model")
    assert str(Path("listed") / "model_00001.safetensors") in bench.pack("nodes.comfy.files").names()
    assert not [name for name in names if not name.endswith(".safetensors")]


def test_what_is_loaded_is_what_was_saved(bench: Workbench) -> None:
    weights = bench.weights(prompt='a "rabbit" für 兎', frames=3, steps=7, attention="first")
    save(bench, weights, "kept/clip")
    loaded, info = bench.run("TAVLoadWeights", file="kept/clip_00001.safetensors")
    assert loaded.metadata == weights.metadata
    assert loaded.tensors.keys() == weights.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], weights.tensors[name]) for name in loaded.tensors)
    assert json.loads(info)["prompt"] == weights.metadata.prompt


def test_fp16_halves_the_file_and_hardly_changes_the_picture(bench: Workbench, folder: Path) -> None:
    weights = bench.weights()
    save(bench, weights, "precision/whole")
    save(bench, weights, "precision/half", "fp16 (half the size)")
    sizes = [
        (folder / "precision" / f"{name}_00001.safetensors").stat().st_size for name in ("half", "whole")
    ]
    assert sizes[0] < 0.55 * sizes[1]
    half, _ = bench.run("TAVLoadWeights", file="precision/half_00001.safetensors")
    ours, exact = bench.draw(bench.apply(half)), bench.draw(bench.apply(weights))
    assert 0 < distance(ours, exact) < 0.01


def test_a_missing_file_is_an_http_400_that_says_so(client: Client) -> None:
    graph = base() | {
        "weights": node("TAVLoadWeights", file="no-such-clip.safetensors"),
        "save": node(
            "TAVSaveWeights", weights=link("weights"), filename_prefix="x", precision="fp32 (exact)"
        ),
    }
    with pytest.raises(PromptRejected) as caught:
        client.run(graph)
    [(_, message)] = caught.value.errors["weights"]
    assert "no-such-clip.safetensors" in message and "models/tune_a_video" in message


def test_a_bad_name_is_an_http_400_before_anything_runs(client: Client, server: Server) -> None:
    graph = base() | {
        "weights": node("TAVLoadWeights", file="there_00001.safetensors"),
        "save": node(
            "TAVSaveWeights", weights=link("weights"), filename_prefix="../x", precision="fp32 (exact)"
        ),
    }
    with pytest.raises(PromptRejected) as caught:
        client.run(graph)
    assert any("'filename_prefix'" in message for _, message in caught.value.errors["save"])


def test_a_damaged_or_foreign_file_gives_one_sentence(
    bench: Workbench, client: Client, server: Server
) -> None:
    folder = server.base / "models" / "tune_a_video"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "damaged.safetensors").write_bytes(b"\x10" * 64)
    graph = base() | {
        "weights": node("TAVLoadWeights", file="damaged.safetensors"),
        "model": node(
            "TAVApplyWeights",
            model=link("ckpt"),
            weights=link("weights"),
            query_strength=1.0,
            temporal_strength=1.0,
        ),
        "noise": invert(link("model"), steps=2),
        "save": save_latent(link("noise"), "never"),
    }
    error = client.run(graph).error
    assert error is not None and error.node == "weights"
    assert_plain(error.message, "damaged.safetensors", "not a safetensors file")
    # A good file under the same name is read anew, though the graph is the same.
    bench.weights().save(folder / "damaged.safetensors")
    client.run(graph).check()


def test_weights_of_another_architecture_are_named(bench: Workbench) -> None:
    weights = bench.weights()
    name = next(iter(weights.tensors))
    weights.tensors[name] = torch.zeros(320, 320)
    weights.tensors["down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q.diff"] = torch.zeros(4, 4)
    gone = next(key for key in weights.tensors if key.endswith(".attn_temp.to_k.weight"))
    del weights.tensors[gone]
    with pytest.raises(ValueError) as caught:
        bench.apply(weights)
    message = str(caught.value)
    assert "\n" not in message
    for word in (name, "[320, 320]", "down_blocks.7", f"{gone} is missing", "do not fit this model"):
        assert word in message


def test_two_files_together_commute(bench: Workbench) -> None:
    a, b = bench.weights(1), bench.weights(2)
    one = bench.draw(bench.apply(b, 0.5, 0.8, bench.apply(a)))
    other = bench.draw(bench.apply(a, model=bench.apply(b, 0.5, 0.8)))
    assert distance(one, other) < 1e-5
    for alone in (a, b):
        assert distance(one, bench.draw(bench.apply(alone))) > 1e-3


def test_a_file_and_its_negative_cancel(bench: Workbench) -> None:
    weights = bench.weights()
    minus = bench.apply(weights, -1.0, -1.0)
    untuned = bench.draw(bench.inflate())
    assert distance(bench.draw(minus), untuned) > 1e-3
    assert distance(bench.draw(bench.apply(weights, model=minus)), untuned) < 1e-5
    assert (
        distance(bench.draw(bench.apply(weights, -1.0, 0.0)), bench.draw(bench.apply(weights, 1.0, 0.0)))
        > 1e-3
    )
    assert (
        distance(bench.draw(bench.apply(weights, 0.0, -1.0)), bench.draw(bench.apply(weights, 0.0, 1.0)))
        > 1e-3
    )


def test_another_base_model_is_a_warning_not_a_refusal(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.apply(bench.weights(base_fingerprint="0123456789abcdef"))
    assert "another base model" in caplog.text
    caplog.clear()
    own = bench.pack("nodes.comfy.model.base_weights").base_fingerprint(bench.model)
    bench.apply(bench.weights(base_fingerprint=own))
    assert not caplog.text
