"""The server and the client, against a real ComfyUI."""

from __future__ import annotations

import threading
import time

import pytest

from devkit.client import Client, ClientError, Progress, PromptRejected, RunError
from devkit.events import decode_binary
from devkit.server import Server, ServerError
from devkit.video import read_video

IMPORTED = time.time()  # the tests are imported before the server starts


def pictures(count: int = 4, size: int = 64, color: int = 255) -> dict:
    return {
        "class_type": "EmptyImage",
        "inputs": {"width": size, "height": size, "batch_size": count, "color": color},
    }


def save(source: str, prefix: str = "test") -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": prefix}}


def sampling(checkpoint: str, steps: int, seed: int = 0) -> dict:
    """Latent noise through the tiny model: long enough to be interrupted."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a cat"}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": seed,
                "steps": steps,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": save("5", "sampled"),
    }


def test_a_run_reports_outputs_times_and_files(client: Client, tmp_path):
    seen: list[Progress] = []
    prompt = {
        "1": pictures(color=int(time.time()) % 1000),
        "2": save("1"),
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": "clip", "format": "mp4", "codec": "h264"},
        },
    }
    result = client.run(prompt, seen.append).check()
    assert result.ok and result.executed == ["1", "2", "3", "4"]
    assert len(result.files("2")) == 4 and len(result.files()) == 5
    assert all(0 <= seconds <= result.seconds for seconds in result.node_seconds.values())
    video = client.download(result.files("4")[0], tmp_path)
    assert read_video(video).shape == (4, 64, 64, 3)
    states = [(p.node, p.state) for p in seen]
    assert states.index(("1", "running")) < states.index(("1", "finished")) < states.index(("2", "running"))

    again = client.run(prompt)
    assert "1" in again.cached and "1" not in again.executed


def test_steps_and_previews_are_reported(client: Client, tiny_checkpoint):
    seen: list[Progress] = []
    result = client.run(sampling(tiny_checkpoint.name, steps=4, seed=int(time.time())), seen.append)
    result.check()
    steps = [(p.value, p.maximum) for p in seen if p.node == "4" and p.state == "progress"]
    assert steps[-1] == (4, 4)
    assert all(p.class_type == "KSampler" for p in seen if p.node == "4")
    assert result.node_seconds["4"] > 0


def test_an_invalid_prompt_is_rejected_with_its_errors(client: Client):
    with pytest.raises(PromptRejected, match=r"node 1 \(EmptyImage\): .*-4.*width") as caught:
        client.queue({"1": pictures(size=-4), "2": save("1")})
    assert sorted(name for name, _ in caught.value.errors["1"]) == ["height", "width"]
    with pytest.raises(PromptRejected, match="Nope"):
        client.queue({"1": {"class_type": "Nope", "inputs": {}}})


def test_an_error_in_a_node_is_reported(server: Server, client: Client):
    (server.base / "models" / "checkpoints" / "broken.safetensors").write_bytes(b"not a checkpoint")
    prompt = {
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "broken.safetensors"}},
        "4": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["3", 2]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": save("4"),
    }
    result = client.run(prompt)
    assert not result.ok and result.error is not None
    assert (result.error.node, result.error.class_type) == ("3", "CheckpointLoaderSimple")
    assert result.error.message and result.error.traceback
    with pytest.raises(RunError, match=r"node 3 \(CheckpointLoaderSimple\) raised"):
        result.check()


def test_a_run_can_be_interrupted_and_the_next_one_works(client: Client, tiny_checkpoint):
    def stop(progress: Progress) -> None:
        if progress.state == "progress" and progress.value >= 2:
            client.interrupt()

    started = time.monotonic()
    result = client.run(sampling(tiny_checkpoint.name, steps=5000, seed=1), stop, timeout=300)
    assert result.interrupted and not result.ok
    assert time.monotonic() - started < 200
    with pytest.raises(RunError, match="interrupted"):
        result.check()
    assert client.run({"1": pictures(), "2": save("1")}).ok


def test_a_run_that_takes_too_long_is_interrupted(client: Client, tiny_checkpoint):
    with pytest.raises(TimeoutError):
        client.run(sampling(tiny_checkpoint.name, steps=5000, seed=2), timeout=3)
    assert client.run({"1": pictures(), "2": save("1")}, timeout=120).ok


def test_runs_from_two_threads_do_not_mix(client: Client):
    results = {}

    def one(color: int) -> None:
        results[color] = client.run({"1": pictures(count=color, color=color), "2": save("1", f"c{color}")})

    threads = [threading.Thread(target=one, args=(color,)) for color in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for color, result in results.items():
        assert [file["filename"].split("_")[0] for file in result.files()] == [f"c{color}"] * color


def test_small_calls(client: Client, clip_file):
    assert client.system_stats()["system"]["comfyui_version"]
    assert "KSampler" in client.object_info() and list(client.object_info("KSampler")) == ["KSampler"]
    assert client.upload(clip_file, "again.mp4") == "again.mp4"
    assert client.view({"filename": "again.mp4", "type": "input"}) == clip_file.read_bytes()
    assert client.history("no such prompt") is None
    client.free()
    assert client.queue_state() == {"queue_running": [], "queue_pending": []}
    with pytest.raises(ClientError, match="HTTP 404"):
        client.view({"filename": "none.png", "type": "output"})


def test_a_killed_server_is_noticed_and_starts_again(server: Server, tiny_checkpoint):
    client = server.client()

    def kill(progress: Progress) -> None:
        if progress.state == "progress":
            server.kill()

    with pytest.raises(ClientError, match="went away"):
        client.run(sampling(tiny_checkpoint.name, steps=5000, seed=3), kill, timeout=300)
    assert not server.running
    with pytest.raises(ClientError, match="does not answer"):
        client.system_stats()
    server.start()
    assert server.client().run({"1": pictures(), "2": save("1")}).ok


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ServerError, match=r"(?s)ended with exit code 2.*--no-such-option"):
        Server(base=tmp_path, arguments=["--no-such-option"]).start()


def test_nothing_is_written_into_comfyui(server: Server, client: Client):
    client.run({"1": pictures(), "2": save("1")}).check()
    written = [
        path
        for path in server.comfyui.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.stat().st_mtime > IMPORTED
    ]
    assert not written


def test_binary_messages():
    metadata = b'{"node_id": "7", "prompt_id": "p"}'
    message = (4).to_bytes(4, "big") + len(metadata).to_bytes(4, "big") + metadata + b"JPEG"
    assert decode_binary(message) == ("preview", {"node": "7", "prompt_id": "p", "image": b"JPEG"})
    message = (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"JPEG"
    assert decode_binary(message) == ("preview", {"node": None, "prompt_id": None, "image": b"JPEG"})
    message = (3).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"7" + b"words"
    assert decode_binary(message) == ("text", {"node": "7", "prompt_id": None, "text": "words"})
    assert decode_binary((99).to_bytes(4, "big")) is None
