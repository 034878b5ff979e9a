"""What pages are told of running nodes, and stop-and-keep, over the server's own routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
import torch
from graphs import base, inflate, invert, link, node, sample, tune
from safetensors import safe_open

from devkit.client import Client, Result
from devkit.events import Connection
from devkit.server import Server
from devkit.video import write_video

ROUTE = "/tune_a_video"
CHOICE = {"start_frame": 0, "frame_stride": 1, "frame_count": 4, "width": 32, "height": 32, "fit": "crop"}


def state_of(client: Client, name: str) -> dict:
    """The state of a node of a graph that was queued without a workflow."""
    states = requests.get(client.url + ROUTE + "/live", params={"workflow": ""}, timeout=60).json()
    return next(state for state in states if state["node"] == name)


def post(client: Client, path: str, body: object) -> requests.Response:
    return requests.post(client.url + ROUTE + path, json=body, timeout=60)


def long_tuning(prefix: str, steps: int, seed: int = 5101) -> dict:
    return base() | {
        "inflated": inflate(link("ckpt")),
        "tuned": tune(link("inflated"), steps=steps, seed=seed, filename_prefix=prefix),
        "loss": node("LossGraphNode", loss=link("tuned", 2), filename_prefix="loss"),
    }


def stop_at(client: Client, graph: dict, step: int) -> Result:
    """Runs a graph and presses stop-and-keep when its tuning has made `step` steps."""
    answers = []

    def on_progress(progress) -> None:
        if (
            progress.node == "tuned"
            and progress.state == "progress"
            and progress.value >= step
            and not answers
        ):
            prompt = state_of(client, "tuned")["prompt"]
            answers.append(post(client, "/stop", {"workflow": "", "prompt": prompt, "node": "tuned"}))

    result = client.run(graph, on_progress)
    assert answers and answers[0].ok, answers
    return result


def made_steps(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["steps"])


def test_stop_and_keep_goes_on_with_what_was_learned_and_can_be_continued(
    server: Server, client: Client
) -> None:
    steps = 30
    graph = long_tuning("live/kept", steps)
    result = stop_at(client, graph, 2).check()
    assert "loss" in result.executed, "the graph must go on"
    path = server.base / "models/tune_a_video/live/kept_00001.safetensors"
    made = made_steps(path)
    assert 2 <= made < steps
    state = state_of(client, "tuned")
    assert (state["status"], state["data"]["step"], state["data"]["steps"]) == ("stopped", made, steps)
    assert len(state["series"]["losses"]["values"]) == made

    again = client.run(graph).check()
    assert "tuned" in again.cached, "what was kept is the result until somebody continues"
    assert post(client, "/continue", {"workflow": "", "node": "tuned"}).ok
    seen = []
    client.run(
        graph, lambda p: seen.append(p.value) if p.node == "tuned" and p.state == "progress" else None
    ).check()
    assert min(seen) > made, "it must go on, not start again"
    assert made_steps(path) == steps
    state = state_of(client, "tuned")
    assert (state["status"], len(state["series"]["losses"]["values"])) == ("done", steps)
    assert "tuned" in client.run(graph).check().cached
    assert post(client, "/continue", {"workflow": "", "node": "tuned"}).status_code == 409


def test_nothing_else_can_be_stopped(client: Client) -> None:
    for body in (
        {"workflow": "", "prompt": "of another run", "node": "tuned"},
        {"workflow": "x", "prompt": "", "node": "../../x"},
    ):
        answer = post(client, "/stop", body)
        assert answer.status_code == 409 and answer.json()["error"].endswith(".")
    for body in (
        [],
        "text",
        {"workflow": ""},
        {"workflow": 1, "prompt": "", "node": ""},
        {"node": "x" * 1000},
    ):
        answer = post(client, "/stop", body)
        assert answer.status_code == 400 and answer.json()["error"].endswith(".")


def test_every_page_hears_of_a_sampler_and_sees_the_whole_clip(client: Client) -> None:
    graph = base(frames=3) | {
        "inverted": invert(link("ckpt")),
        "sampled": sample(link("ckpt"), link("inverted")),
        "saved": node("SaveLatent", samples=link("sampled"), filename_prefix="live"),
    }
    with Connection(client.url) as another_window:
        client.run(graph).check()
        events = []
        while (event := another_window.get(1.0)) is not None:
            events.append(event)
    told = [event.data for event in events if event.type == "tune_a_video.live"]
    assert {(state["node"], state["kind"]) for state in told} == {
        ("inverted", "inversion"),
        ("sampled", "sampling"),
    }
    assert [state["status"] for state in told if state["node"] == "sampled"][-1] == "done"
    for name in ("inverted", "sampled"):
        state = state_of(client, name)
        assert (state["status"], state["data"]) == ("done", {"step": 4, "steps": 4})
        assert state["sheet"]["frames"] == 3 and "jpeg" not in state["sheet"]
        picture = requests.get(
            client.url + ROUTE + "/picture", params={"workflow": "", "node": name}, timeout=60
        )
        assert picture.headers["content-type"] == "image/jpeg" and picture.content[:2] == b"\xff\xd8"
    missing = requests.get(
        client.url + ROUTE + "/picture", params={"workflow": "", "node": "nobody"}, timeout=60
    )
    assert missing.status_code == 404


def test_states_belong_to_a_workflow(client: Client) -> None:
    graph = base(frames=3) | {
        "inverted": invert(link("ckpt"), steps=2),
        "saved": node("SaveLatent", samples=link("inverted"), filename_prefix="live"),
    }
    info = {"extra_pnginfo": {"workflow": {"id": "0d1c-workflow"}}}
    answer = requests.post(
        f"{client.url}/prompt", json={"prompt": graph, "extra_data": info}, timeout=60
    ).json()
    while client.history(answer["prompt_id"]) is None:
        pass
    ours = requests.get(client.url + ROUTE + "/live", params={"workflow": "0d1c-workflow"}, timeout=60).json()
    assert [(state["node"], state["prompt"]) for state in ours] == [("inverted", answer["prompt_id"])]
    others = requests.get(client.url + ROUTE + "/live", params={"workflow": "another"}, timeout=60).json()
    assert others == []


def test_clips_are_described_and_shown(client: Client, tmp_path: Path) -> None:
    levels = (20 + 10 * torch.arange(20)).to(torch.uint8)[:, None, None, None].expand(-1, 48, 64, 3).numpy()
    name = client.upload(write_video(tmp_path / "twenty.mp4", levels, fps=10))

    def ask(path: str, **values) -> requests.Response:
        return requests.get(client.url + ROUTE + path, params=values, timeout=60)

    about = ask("/clip", video=name).json()
    assert {key: about[key] for key in ("frames", "fps", "width", "height")} == {
        "frames": 20,
        "fps": 10.0,
        "width": 64,
        "height": 48,
    }
    assert about["strip"]["picture"].startswith("data:image/jpeg;base64,")
    assert ask("/clip", video=name, resample_fps=5).json()["frames"] == 10
    shown = ask("/frames", video=name, **CHOICE | {"start_frame": 2, "frame_stride": 3}).json()
    assert (shown["frames"], shown["fps"], shown["target"]) == (4, pytest.approx(10 / 3, abs=0.01), [32, 32])
    beyond = ask("/frames", video=name, **CHOICE | {"frame_count": 21})
    assert beyond.status_code == 400 and "ask for at most 20" in beyond.json()["error"]
    many = ask("/frames", video=name, **CHOICE | {"frame_count": 1000})
    assert many.status_code == 400 and "20 frames" in many.json()["error"]


@pytest.mark.parametrize("name", ["../../server.log", "/etc/passwd", "..\\x.mp4", "missing.mp4", "", "a\0b"])
def test_no_file_outside_of_the_folders_is_read(client: Client, name: str) -> None:
    for path, values in (("/clip", {}), ("/frames", CHOICE)):
        answer = requests.get(client.url + ROUTE + path, params={"video": name, **values}, timeout=60)
        assert answer.status_code == 400 and answer.json()["error"], (path, name)


@pytest.mark.parametrize("change", [{"frame_count": 0}, {"width": "x"}, {"width": 10**9}, {"fit": "melt"}])
def test_wrong_numbers_are_refused(client: Client, change: dict) -> None:
    values = {"video": "square.mp4", **CHOICE, **change}
    answer = requests.get(client.url + ROUTE + "/frames", params=values, timeout=60)
    assert answer.status_code == 400 and answer.json()["error"]


def test_what_ends_badly_is_told(pack) -> None:
    live = pack("nodes.comfy.page.live")
    with pytest.raises(RuntimeError), live.reporting("tuning", None) as reporter:
        raise RuntimeError
    assert reporter.state.status == "failed"
    with pytest.raises(KeyboardInterrupt), live.reporting("tuning", None) as reporter:
        raise KeyboardInterrupt
    assert reporter.state.status == "interrupted"


def test_a_series_is_sent_once(pack, monkeypatch) -> None:
    live = pack("nodes.comfy.page.live")
    sent = []
    monkeypatch.setattr(live, "_broadcast", sent.append)
    with live.reporting("tuning", None, interval=0.0) as reporter:
        reporter.extend("losses", [1.0, 2.0])
        reporter.show(step=2)
        reporter.extend("losses", [1.0, 2.0, 3.0])
        reporter.show(step=3)
    series = [content["series"].get("losses") for content in sent]
    assert series == [
        None,
        {"from": 0, "values": [1.0, 2.0]},
        {"from": 2, "values": [3.0]},
        {"from": 3, "values": []},
    ]
    json.dumps(sent)


def test_only_the_workflow_that_continued_a_tuning_runs_it_again(pack) -> None:
    states = pack("nodes.comfy.page.live").LiveStates()
    for workflow in ("one", "two"):
        state = pack("nodes.comfy.page.live").LiveState(workflow, "p", "7", "tuning", status="stopped")
        states.begin(state)
    assert states.ask_to_continue("one", "7")

    def queued(workflow: str) -> dict:
        info = {"extra_pnginfo": {"workflow": {"id": workflow}}}
        return {"prompt": {"7": {"inputs": {}}, "8": {"inputs": {}}}, "extra_data": info}

    assert states.mark_continued(queued("two")) == queued("two")
    marked = states.mark_continued(queued("one"))["prompt"]
    assert marked == {"7": {"inputs": {"times_continued": 1}}, "8": {"inputs": {}}}
    for unusual in (
        {},
        {"prompt": None, "extra_data": None},
        {"prompt": {}, "extra_data": {"extra_pnginfo": []}},
    ):
        assert states.mark_continued(dict(unusual)) == unusual


def test_old_states_make_room(pack) -> None:
    live = pack("nodes.comfy.page.live")
    states = live.LiveStates()
    for number in range(live.MOST_STATES + 5):
        states.begin(live.LiveState("w", "p", str(number), "tuning"))
    assert len(states.shown("w")) == live.MOST_STATES
    assert states.find("w", "0") is None
