"""What is measured of one edited clip."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from devkit.world.clips import Clip
from devkit.world.judge import Judge
from devkit.world.vocabulary import BACKGROUNDS, NEW_OBJECT, OBJECTS, STYLES, Meaning
from tav_core.metrics.clip_score import ClipScore
from tav_core.metrics.consistency import frame_consistency
from tav_core.metrics.psnr import psnr
from tav_core.metrics.warping import warping_error

from .cases import Edit, Source
from .lineup import Lineup

MARGIN = 6
"""Pixels around a sprite's square that do not count as background; an edit's sprite may fill its square more."""


@dataclass(frozen=True)
class Findings:
    """What the judge found in each frame. As many objects count as the prompt names: the likeliest.

    objects: bool (F, objects named in the prompt). background, style: bool (F,). centres: (F, objects, 2) in
    pixels, of the named objects where found and otherwise of what was found in their place.
    """

    objects: np.ndarray
    background: np.ndarray
    style: np.ndarray
    centres: np.ndarray
    features: Tensor


def judge_frames(judge: Judge, frames: Tensor, asked: Meaning, places: np.ndarray) -> Findings:
    """What ``judge`` finds of ``asked`` in ``frames`` (F, H, W, 3) in 0..1.

    ``places`` (F, objects, 2) is where the source's sprites are; it pairs objects that nobody asked for with them.
    """
    answer = judge(frames.to(judge.style.weight.device))
    answer = {name: value.cpu() for name, value in answer.items()}
    asked_numbers = [OBJECTS.index(name) for name in asked.objects]
    likeliest = answer["object_probs"].topk(len(asked_numbers), dim=1).indices.numpy()
    centres = answer["centres"].numpy()
    found = np.stack([(likeliest == number).any(axis=1) for number in asked_numbers], axis=1)
    where = np.empty((len(frames), len(asked_numbers), 2), np.float32)
    for frame in range(len(frames)):
        shown = _paired(likeliest[frame], asked_numbers, centres[frame], places[frame])
        where[frame] = centres[frame, shown]
    return Findings(
        found,
        (answer["background"] == BACKGROUNDS.index(asked.background)).numpy(),
        (answer["style"] == STYLES.index(asked.style)).numpy(),
        where,
        answer["features"],
    )


def newcomer_frames(judge: Judge, lineup: Lineup, frames: Tensor, asked: Meaning) -> Findings:
    """What is found where ``asked`` names the one sprite that ``judge`` was never taught.

    The line-up says whether it is there, and corrects where the judge sees it.
    """
    answer = {name: value.cpu() for name, value in judge(frames.to(judge.style.weight.device)).items()}
    return Findings(
        np.array([[name == NEW_OBJECT] for name in lineup.shown(frames)]),
        (answer["background"] == BACKGROUNDS.index(asked.background)).numpy(),
        (answer["style"] == STYLES.index(asked.style)).numpy(),
        lineup.centres(answer["centres"].numpy())[:, None],
        answer["features"],
    )


def measure(
    judge: Judge,
    frames: Tensor,
    clip: Clip,
    source: Source,
    edit: Edit,
    clip_score: ClipScore | None = None,
    lineup: Lineup | None = None,
) -> dict:
    """All measures of one edited clip, ready for JSON; what does not apply is None.

    edit_success: share of frames in which the judge finds everything that the edit changes. source_kept: the same
    of what it leaves. motion_errors: distance in pixels of each object's centre from the source sprite's, by frame.
    background_psnr: object edits only, outside the sprites' squares. ``lineup``: for an edit that asks for the sprite
    that the judge was never taught.
    """
    asked, shown = edit.meaning, source.meaning
    if lineup is None:
        findings = judge_frames(judge, frames, asked, clip.centres)
    else:
        findings = newcomer_frames(judge, lineup, frames, asked)
    checks = [
        (name != before, findings.objects[:, index])
        for index, (name, before) in enumerate(zip(asked.objects, shown.objects, strict=True))
    ]
    checks.append((asked.background != shown.background, findings.background))
    checks.append((asked.style != shown.style, findings.style))
    changed = [hits for is_changed, hits in checks if is_changed]
    kept = [hits for is_changed, hits in checks if not is_changed]
    distances = np.linalg.norm(findings.centres - clip.centres, axis=-1).astype(float)
    source_frames = torch.from_numpy(clip.frames).float() / 255
    values = {
        "edit_success": _share(changed),
        "source_kept": _share(kept) if kept else None,
        "motion_errors": distances.round(2).flatten().tolist(),
        "frame_consistency": frame_consistency(findings.features),
        "warping_error": warping_error(frames, source_frames),
        "background_psnr": None,
        "clip_frame_consistency": None,
        "clip_text_alignment": None,
    }
    if edit.kind == "object":
        outside = torch.from_numpy(~squares(clip, MARGIN))
        values["background_psnr"] = finite(psnr(frames, source_frames, outside))
    if clip_score is not None:
        values["clip_frame_consistency"] = clip_score.frame_consistency(frames)
        values["clip_text_alignment"] = clip_score.text_alignment(frames, edit.prompt)
    return values


def squares(clip: Clip, margin: float) -> np.ndarray:
    """Where (bool (F, H, W)) the sprites' squares are, with a margin in pixels."""
    count, height, width = clip.frames.shape[:3]
    rows, columns = np.mgrid[:height, :width] + 0.5
    mask = np.zeros((count, height, width), bool)
    for frame in range(count):
        for sprite in clip.plan.scene(frame).sprites:
            reach = sprite.size / 2 + margin
            mask[frame] |= (abs(columns - sprite.centre[0]) < reach) & (abs(rows - sprite.centre[1]) < reach)
    return mask


def finite(value: float) -> float | None:
    """The value, or None for what JSON cannot hold."""
    return value if np.isfinite(value) else None


def _paired(likeliest: np.ndarray, asked: list[int], centres: np.ndarray, places: np.ndarray) -> list[int]:
    """For each asked object the one that shows its motion: itself if found, else the nearest of the others."""
    free = [number for number in likeliest if number not in asked]
    missing = [index for index, number in enumerate(asked) if number not in likeliest]

    def distance(order: tuple[int, ...]) -> float:
        pairs = zip(missing, order, strict=True)
        return sum(float(np.linalg.norm(centres[number] - places[index])) for index, number in pairs)

    best = min(itertools.permutations(free, len(missing)), key=distance)
    shown = list(asked)
    for index, number in zip(missing, best, strict=True):
        shown[index] = int(number)
    return shown


def _share(hits: list[np.ndarray]) -> float:
    return float(np.logical_and.reduce(hits).mean())
