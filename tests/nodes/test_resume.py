"""A stopped tuning run loses nothing: it goes on as if nothing had happened, and a finished one is not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from graphs import base, inflate, link, node, tune
from safetensors import safe_open
from safetensors.torch import load_file

from devkit.client import Client, Result
from devkit.server import Server

STEPS = 6


def graph(prefix: str, seed: int, **changes) -> dict:
    nodes = base() | {
        "inflated": inflate(link("ckpt")),
        "tuned": tune(link("inflated"), steps=STEPS, seed=seed, filename_prefix=prefix, **changes),
    }
    return nodes | {"loss": node("LossGraphNode", loss=link("tuned", 2), filename_prefix="loss")}


def folder(server: Server) -> Path:
    return server.base / "models" / "tune_a_video"


def run_until(client: Client, prompt: dict, step: int, act) -> Result | None:
    """Runs `prompt` and calls `act` once when the tuning has made `step` steps."""
    done = []

    def on_progress(progress) -> None:
        if progress.node == "tuned" and progress.state == "progress" and progress.value >= step and not done:
            done.append(progress.value)
            act()

    return client.run(prompt, on_progress)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps_of(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["steps"])


def whole_run(server: Server, client: Client, seed: int) -> dict[str, torch.Tensor]:
    client.run(graph(f"whole/{seed}", seed, resume=False)).check()
    return tensors(folder(server) / f"whole/{seed}_00001.safetensors")


def test_a_stopped_run_goes_on_bit_for_bit(server: Server, client: Client) -> None:
    seed = 4101
    others = set((folder(server) / "unfinished").glob("*.state"))
    result = run_until(client, graph("stopped/a", seed), 2, client.interrupt)
    assert result.interrupted
    path = folder(server) / "stopped/a_00001.safetensors"
    at = steps_of(path)
    assert 2 <= at < STEPS
    (state,) = set((folder(server) / "unfinished").glob("*.state")) - others
    seen = []
    client.run(graph("stopped/a", seed), lambda p: seen.append(p) if p.node == "tuned" else None).check()
    first = next(p.value for p in seen if p.state == "progress")
    assert first > at, "it must go on, not start again"
    assert steps_of(path) == STEPS
    assert not state.exists()
    assert list(path.parent.iterdir()) == [path], "the stopped run's file is the finished run's"
    assert same(tensors(path), whole_run(server, client, seed))


def test_a_killed_server_loses_at_most_save_every_steps(server: Server, client: Client) -> None:
    seed, steps, every = 4102, 60, 4
    prompt = graph("killed/a", seed, save_every=every)
    prompt["tuned"]["inputs"]["steps"] = steps
    path = folder(server) / "killed/a_00001.safetensors"
    seen = []

    def on_progress(progress) -> None:
        if progress.node == "tuned" and progress.state == "progress":
            seen.append(progress.value)
            if progress.value >= every + 1 and server.running:
                server.kill()

    with pytest.raises(Exception):  # noqa: B017  (however a vanished server shows itself)
        client.run(prompt, on_progress)
    assert seen[-1] < steps, "it must have been killed on the way"
    assert every <= steps_of(path) < steps
    assert steps_of(path) > seen[-1] - every
    server.start()
    again = server.client()
    again.run(prompt).check()
    assert steps_of(path) == steps
    whole = graph("whole/killed", seed, resume=False)
    whole["tuned"]["inputs"]["steps"] = steps
    again.run(whole).check()
    assert same(tensors(path), tensors(folder(server) / "whole/killed_00001.safetensors"))


def test_a_finished_run_is_found_again(server: Server, client: Client) -> None:
    seed = 4103
    client.run(graph("found/a", seed)).check()
    client.free()
    seen = []

    def on_progress(progress) -> None:
        if progress.node == "tuned" and progress.state == "progress":
            seen.append(progress.value)

    client.run(graph("found/other", seed), on_progress).check()
    assert seen == []
    assert not list(folder(server).glob("found/other*"))
    client.run(graph("found/other", seed, learning_rate=2e-3), on_progress).check()
    assert seen
    assert list(folder(server).glob("found/other*"))


def test_an_unwritable_folder_is_told_before_tuning(server: Server, client: Client) -> None:
    blocked = folder(server) / "blocked"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder should be")
    seen = []
    result = client.run(graph("blocked/a", 4104), lambda p: seen.append(p) if p.state == "preview" else None)
    blocked.unlink()
    assert not result.ok
    assert "blocked cannot be written" in result.error.message.replace("\\", "/")
    assert not [p for p in seen if p.node == "tuned"]
    assert client.run(graph("unblocked/a", 4104)).ok
