"""Whatever is attached to a MODEL lives and dies with that clone, in a real server."""

from __future__ import annotations

import itertools

import pytest
import torch
from graphs import base, inflate, invert, link, node, plain_sample, sample, save_latent, tune
from safetensors.torch import load_file

from devkit.client import Client
from devkit.server import Server

_nonces = itertools.count()
_names = itertools.count()


class Laboratory:
    """Runs graphs and reads back latents bit for bit."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client: Client = server.client()

    def latents(self, graph: dict, *nodes: str) -> list[torch.Tensor]:
        """Runs `graph` and returns the latents that `nodes` put out."""
        stems = {name: f"isolation/{name}{next(_names)}" for name in nodes}
        saves = {f"save {name}": save_latent(link(name), stem) for name, stem in stems.items()}
        self.client.run(graph | saves).check()
        found = []
        for stem in stems.values():
            folder, _, name = stem.rpartition("/")
            files = sorted((self.server.base / "output" / folder).glob(f"{name}_*.latent"))
            found.append(load_file(files[-1])["latent_tensor"])
        return found

    def plain(self) -> torch.Tensor:
        """What the untouched MODEL of the loader draws now; computed anew at each call."""
        graph = base() | {
            "picture": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "plain": plain_sample(link("ckpt"), next(_nonces)),
        }
        return self.latents(graph, "plain")[0]


@pytest.fixture
def laboratory(client: Client, server: Server) -> Laboratory:
    return Laboratory(server)


def whole_graph(**tuning) -> dict:
    return base() | {
        "inflated": inflate(link("ckpt")),
        "tuned": tune(link("inflated"), **tuning),
        "noise": invert(link("tuned")),
        "edited": sample(link("tuned"), link("noise")),
    }


def test_plain_model_is_bit_identical_after_the_whole_method(laboratory: Laboratory) -> None:
    before = laboratory.plain()
    assert torch.equal(before, laboratory.plain()), "the measurement itself must repeat"
    (edited,) = laboratory.latents(whole_graph(), "edited")
    assert bool(edited.isfinite().all())
    assert torch.equal(before, laboratory.plain())


def test_two_tuned_clones_do_not_touch_each_other(laboratory: Laboratory) -> None:
    graph = base() | {"inflated": inflate(link("ckpt"))}
    for name, seed, rate in (("a", 1, 1e-3), ("b", 2, 3e-3)):
        graph |= {
            f"tuned {name}": tune(link("inflated"), seed=seed, learning_rate=rate),
            f"noise {name}": invert(link(f"tuned {name}")),
        }
    # Interleaved: a, b, a again over b's model in between.
    both = graph | {
        "first a": sample(link("tuned a"), link("noise a"), seed=1),
        "then b": sample(link("tuned b"), link("noise b"), seed=1),
        "again a": sample(link("tuned a"), link("noise a"), seed=2),
    }
    first, then, again = laboratory.latents(both, "first a", "then b", "again a")
    (alone_a,) = laboratory.latents(graph | {"a": sample(link("tuned a"), link("noise a"), seed=3)}, "a")
    (alone_b,) = laboratory.latents(graph | {"b": sample(link("tuned b"), link("noise b"), seed=3)}, "b")
    assert not torch.equal(first, then)
    assert torch.equal(first, again)
    assert torch.equal(first, alone_a)
    assert torch.equal(then, alone_b)


@pytest.mark.parametrize("stage", ["tuned", "noise", "edited"])
def test_model_is_clean_after_an_interrupt(laboratory: Laboratory, stage: str) -> None:
    before = laboratory.plain()
    nonce = next(_nonces)
    graph = whole_graph(seed=1000 + nonce, steps=500 if stage == "tuned" else 2)
    if stage != "tuned":
        graph[{"noise": "noise", "edited": "edited"}[stage]]["inputs"]["steps"] = 500
    graph["save"] = save_latent(link("edited"), "isolation/interrupted")
    stopped = []

    def on_progress(progress) -> None:
        if progress.node == stage and progress.state == "progress" and progress.value >= 2 and not stopped:
            stopped.append(progress.value)
            laboratory.client.interrupt()

    result = laboratory.client.run(graph, on_progress)
    assert stopped and result.interrupted
    assert torch.equal(before, laboratory.plain())


def test_an_interrupted_tuning_keeps_its_weights(laboratory: Laboratory) -> None:
    prefix = f"interrupted/run{next(_names)}"
    graph = whole_graph(steps=500, filename_prefix=prefix, seed=77)
    graph["save"] = save_latent(link("edited"), "isolation/never")

    def on_progress(progress) -> None:
        if progress.node == "tuned" and progress.state == "progress" and progress.value >= 2:
            laboratory.client.interrupt()

    assert laboratory.client.run(graph, on_progress).interrupted
    files = list((laboratory.server.base / "models" / "tune_a_video").glob(f"{prefix}_*.safetensors"))
    assert len(files) == 1
    loaded = base() | {
        "weights": node("TAVLoadWeights", file=f"{prefix}_00001.safetensors"),
        "model": node(
            "TAVApplyWeights",
            model=link("ckpt"),
            weights=link("weights"),
            query_strength=1.0,
            temporal_strength=1.0,
        ),
        "noise": invert(link("model")),
    }
    (noise,) = laboratory.latents(loaded, "noise")
    assert bool(noise.isfinite().all())
