"""Prompts over time and masks, in the real server."""

from __future__ import annotations

import torch
from graphs import base, inflate, invert, link, node, sample, tune
from test_isolation import Laboratory

from devkit.client import Client
from devkit.server import Server


def tuned() -> dict:
    return base() | {
        "inflated": inflate(link("ckpt")),
        "tuned": tune(link("inflated"), seed=5, filename_prefix="place/tuned"),
        "noise": invert(link("tuned"), keep_trajectory=True),
    }


def schedule(text: str, frames: int = 3, blend: bool = True) -> dict:
    return node("TAVPromptSchedule", clip=link("ckpt", 1), prompts=text, frame_count=frames, blend=blend)


def test_a_schedule_of_one_prompt_is_that_prompt(server: Server, client: Client) -> None:
    laboratory = Laboratory(server)
    graph = tuned() | {
        "always": schedule("0: a cat on the beach, pixel art style"),
        "scheduled": sample(link("tuned"), link("noise"), positive=link("always")),
        "plain": sample(link("tuned"), link("noise")),
        "turns": schedule("0: a cat on the beach, pixel art style\n2: a dog on the snow"),
        "turned": sample(link("tuned"), link("noise"), positive=link("turns")),
    }
    scheduled, plain, turned = laboratory.latents(graph, "scheduled", "plain", "turned")
    assert torch.allclose(scheduled, plain, atol=1e-4)
    assert not torch.allclose(turned, plain, atol=1e-2)


def test_a_schedule_of_another_length_is_refused(client: Client) -> None:
    graph = tuned() | {
        "always": schedule("0: a cat", frames=2),
        "scheduled": sample(link("tuned"), link("noise"), positive=link("always")),
        "save": node("SaveLatent", samples=link("scheduled"), filename_prefix="never"),
    }
    result = client.run(graph)
    assert "2 frames" in result.error.message
    assert "3" in result.error.message


def test_outside_of_a_mask_the_source_stays(server: Server, client: Client) -> None:
    laboratory = Laboratory(server)
    graph = tuned() | {
        "all": node("SolidMask", value=0.0, width=64, height=64),
        "spot": node("SolidMask", value=1.0, width=24, height=32),
        "mask": node(
            "MaskComposite", destination=link("all"), source=link("spot"), x=16, y=16, operation="add"
        ),
        "masked": sample(link("tuned"), link("noise"), mask=link("mask")),
        "unmasked": sample(link("tuned"), link("noise")),
    }
    source, masked, unmasked = laboratory.latents(graph, "latent", "masked", "unmasked")
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:5] = True
    assert float((masked - source)[..., ~inside].abs().max()) < 1e-4
    assert float((masked - source)[..., inside].abs().mean()) > 0.01
    assert float((unmasked - source)[..., ~inside].abs().mean()) > 0.01


def test_a_mask_without_the_trajectory_says_what_to_do(client: Client) -> None:
    graph = tuned() | {
        "noise": invert(link("tuned")),
        "mask": node("SolidMask", value=1.0, width=64, height=64),
        "masked": sample(link("tuned"), link("noise"), mask=link("mask")),
        "save": node("SaveLatent", samples=link("masked"), filename_prefix="never"),
    }
    assert "keep_trajectory" in client.run(graph).error.message
