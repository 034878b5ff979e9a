"""The edit benchmark: cases files, what is measured, and a whole small run with random weights."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.edits import table
from benchmarks.edits.__main__ import main as edits
from benchmarks.edits.cases import DEVELOPMENT, KINDS, SHIPPED, CasesError, Edit, Settings, load_cases
from benchmarks.edits.companions import Companions
from benchmarks.edits.lineup import SPRITES, Lineup
from benchmarks.edits.measure import MARGIN, judge_frames, measure, newcomer_frames, squares
from benchmarks.edits.meter import measured
from benchmarks.edits.model import Model
from benchmarks.edits.rows import DEFAULT, ROWS
from benchmarks.edits.run import SourceRun
from benchmarks.edits.store import Store, all_cases
from devkit import bench
from devkit.paths import ASSETS
from devkit.say import DevError
from devkit.world.checkpoint import load_checkpoint, make_random
from devkit.world.clips import render_clip
from devkit.world.judge import Judge, load_judge, save_judge
from devkit.world.variants import build_controlnet, save_controlnet
from devkit.world.vocabulary import BACKGROUNDS, NEW_OBJECT, OBJECTS, STYLES, parse_caption

JUDGE = ASSETS / "tiny" / "judge.safetensors"
SMALL = {
    "name": "small",
    "settings": {"frames": 4, "tuning": {"steps": 2}, "steps": 2, "cfg": 3.0, "strength": 1.0},
    "sources": [
        {
            "id": "rabbit",
            "sprite": "rabbit",
            "start": [40, 80],
            "end": [80, 80],
            "size": 56,
            "background": "grass",
            "edits": [
                {"kind": "object", "prompt": "a cat on the grass"},
                {"kind": "style", "prompt": "a rabbit on the grass, sketch style"},
            ],
        }
    ],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random checkpoint with companions, and an untrained judge."""
    folder = tmp_path_factory.mktemp("weights")
    make_random(folder / "model.safetensors", seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        save_judge(Judge(), folder / "judge.safetensors")
        control = build_controlnet(load_checkpoint(folder / "model.safetensors").unet)
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            torch.nn.init.normal_(layer.weight, std=0.1)
        save_controlnet(control, folder / "controlnet.safetensors")
    changed = load_file(folder / "model.safetensors")
    name = next(name for name in changed if name.endswith("attn2.to_v.weight"))
    save_file({name: changed[name] * 3}, folder / "dreambooth.safetensors")
    return folder


# -- cases files


def test_the_shipped_set_is_eight_sources_with_four_kinds_of_edit():
    cases = load_cases(SHIPPED)
    assert len(cases.sources) == 8
    for source in cases.sources:
        assert [edit.kind for edit in source.edits] == list(KINDS)
    assert any(len(source.actors) == 2 for source in cases.sources)
    trajectories = {actor.trajectory for source in cases.sources for actor in source.actors}
    assert {"straight", "curved", "accelerating", "growing"} <= trajectories


def test_no_development_clip_is_a_reported_one():
    reported, development = load_cases(SHIPPED), load_cases(DEVELOPMENT)
    assert not {s.prompt for s in reported.sources} & {s.prompt for s in development.sources}
    assert not {s.seed for s in reported.sources} & {s.seed for s in development.sources}
    assert reported.settings == development.settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["sources"][0].update(sprite="dragon"), "unknown 'dragon'"),
        (lambda c: c["sources"][0].update(trajectory="sideways"), "unknown 'sideways'"),
        (lambda c: c["sources"][0].update(end=[140, 80]), "leaves the picture"),
        (lambda c: c["sources"][0].pop("start"), "'start' is missing"),
        (lambda c: c["sources"][0]["edits"][0].update(kind="style"), "is of kind 'object', not 'style'"),
        (lambda c: c["sources"][0]["edits"][0].update(prompt="a rabbit on the grass"), "change something"),
        (lambda c: c["sources"][0]["edits"][0].update(prompt="a cat flies"), "not a caption"),
        (
            lambda c: c["sources"][0]["edits"][0].update(prompt="a cat and a dog on the grass"),
            "another number of objects",
        ),
        (lambda c: c["settings"].update(guidence=3), "unknown entry 'guidence'"),
        (lambda c: c["settings"].update(attention="none"), "unknown attention 'none'"),
        (lambda c: c["sources"].append(c["sources"][0]), "same id"),
    ],
)
def test_faults_in_a_cases_file_are_named(tmp_path, change, message):
    content = copy.deepcopy(SMALL)
    change(content)
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CasesError, match=message):
        load_cases(path)


def test_cases_in_order_and_limited(small_file):
    cases = load_cases(small_file, {"seeds": [0, 1]})
    rows = [ROWS["full"], ROWS["source"]]
    assert len(all_cases(cases, rows)) == 8
    limited = all_cases(cases, rows, limit=1)
    assert {case.edit.prompt for case in limited} == {"a cat on the grass"}
    assert {case.seed for case in limited} == {0, 1}


def test_results_are_kept_by_all_that_they_depend_on(small_file, tmp_path, weights):
    cases = load_cases(small_file)
    case, other, *_ = all_cases(cases, [ROWS["full"]])
    files = [weights / "model.safetensors"]
    store = Store(tmp_path / "results", cases.settings, files)
    assert store.read(case) is None
    frames = torch.rand(2, 8, 8, 3)
    store.write(case, {"edit_success": 1.0}, frames)
    torch.testing.assert_close(store.frames(case), frames, atol=0.5 / 255 + 1e-6, rtol=0)
    assert store.read(case) == {"edit_success": 1.0}
    assert store.path(case).with_suffix(".png").is_file()
    assert store.read(other) is None
    assert Store(tmp_path / "results", Settings(cfg=9.0), files).read(case) is None
    assert Store(tmp_path / "results", cases.settings, [weights / "judge.safetensors"]).read(case) is None


# -- measures


class Answers:
    """A judge that says what it is told: objects and centres per frame, one background, one style."""

    def __init__(self, objects, centres, background="grass", style="plain"):
        frames = len(objects)
        probabilities = torch.zeros(frames, len(OBJECTS))
        places = torch.zeros(frames, len(OBJECTS), 2)
        for frame in range(frames):
            for name, centre in zip(objects[frame], centres[frame], strict=True):
                probabilities[frame, OBJECTS.index(name)] = 1
                places[frame, OBJECTS.index(name)] = torch.tensor(centre)
        self.answer = {
            "object_probs": probabilities,
            "centres": places,
            "background": torch.full((frames,), BACKGROUNDS.index(background)),
            "style": torch.full((frames,), STYLES.index(style)),
            "features": torch.ones(frames, 4),
        }
        self.style = torch.nn.Linear(1, 1)

    def __call__(self, frames):
        return self.answer


def test_an_object_counts_where_it_is_found_and_motion_is_its_distance(small_file):
    source = load_cases(small_file).sources[0]
    clip = render_clip(source.plan(4))
    objects = [("cat",), ("cat",), ("rabbit",), ("cat",)]
    centres = [[(x + 3, y + 4)] for x, y in clip.centres[:, 0].tolist()]
    values = measure(
        Answers(objects, centres), torch.from_numpy(clip.frames).float() / 255, clip, source, source.edits[0]
    )
    assert values["edit_success"] == 0.75
    assert values["source_kept"] == 1.0
    assert values["motion_errors"] == [5.0] * 4
    assert values["frame_consistency"] == pytest.approx(100.0)
    assert values["background_psnr"] is None  # the source itself: infinite


def test_what_the_edit_leaves_must_be_kept(small_file):
    source = load_cases(small_file).sources[0]
    clip = render_clip(source.plan(4))
    frames = torch.from_numpy(clip.frames).float() / 255
    centres = [[tuple(c)] for c in clip.centres[:, 0].tolist()]
    judge = Answers([("cat",)] * 4, centres, background="beach")
    assert measure(judge, frames, clip, source, source.edits[0])["source_kept"] == 0.0
    everything = Edit("a cat on the beach, sketch style", "several")
    values = measure(judge, frames, clip, source, everything)
    assert values["source_kept"] is None
    assert values["edit_success"] == 0.0  # the style is missing


def test_two_objects_are_paired_with_the_sprites_whose_place_they_take():
    places = np.array([[(20, 20), (100, 100)]], np.float32)
    asked = parse_caption("a cat and a dog on the grass")
    judge = Answers([("rabbit", "pig")], [[(98, 100), (22, 20)]])
    found = judge_frames(judge, torch.zeros(1, 8, 8, 3), asked, places)
    assert not found.objects.any()
    np.testing.assert_array_equal(found.centres[0], [(22, 20), (98, 100)])
    judge = Answers([("dog", "pig")], [[(98, 100), (22, 20)]])
    found = judge_frames(judge, torch.zeros(1, 8, 8, 3), asked, places)
    np.testing.assert_array_equal(found.objects[0], [False, True])
    np.testing.assert_array_equal(found.centres[0], [(22, 20), (98, 100)])


def test_the_background_is_what_no_sprite_covers(small_file):
    clip = render_clip(load_cases(small_file).sources[0].plan(4))
    covered = squares(clip, 0)
    assert covered.sum(axis=(1, 2)).tolist() == [56 * 56] * 4
    assert not (clip.masks.any(axis=1) & ~covered).any()


def test_the_real_judge_finds_the_sources():
    judge = load_judge(JUDGE)
    for source in load_cases(SHIPPED).sources:
        clip = render_clip(source.plan(5))
        frames = torch.from_numpy(clip.frames).float() / 255
        found = judge_frames(judge, frames, source.meaning, clip.centres)
        assert found.objects.all() and found.background.all() and found.style.all()
        assert np.median(np.linalg.norm(found.centres - clip.centres, axis=-1)) < 2


def test_the_real_judge_s_features_tell_the_newcomer_and_its_place():
    if not JUDGE.is_file():
        pytest.skip(f"there is no trained judge at {JUDGE}")
    judge = load_judge(JUDGE)
    source = load_cases(SHIPPED).sources[0]
    clip = render_clip(source.plan(3))
    lineup = Lineup(judge, clip, squares(clip, MARGIN), lambda frames: frames)
    (actor,) = clip.plan.actors
    for name in (NEW_OBJECT, actor.name, "cat", "rocket"):
        # A little aside, smaller, and before a background of another seed.
        moved = dataclasses.replace(
            actor, name=name, start=(actor.start[0] + 3, actor.start[1] - 2), size=actor.size * 0.93
        )
        other = render_clip(dataclasses.replace(clip.plan, actors=(moved,), seed=clip.plan.seed + 1))
        frames = torch.from_numpy(other.frames).float() / 255
        assert set(lineup.shown(frames)) == {name}
        found = newcomer_frames(judge, lineup, frames, source.personal_edits[0].meaning)
        assert found.objects.tolist() == [[name == NEW_OBJECT]] * 3
        if name == NEW_OBJECT:
            assert np.median(np.linalg.norm(found.centres - other.centres, axis=-1)) < 3
    assert len(SPRITES) == len(OBJECTS) + 1


def test_clips_of_two_sprites_have_no_edit_for_a_personalised_checkpoint():
    cases = load_cases(SHIPPED)
    found = all_cases(cases, [ROWS["dreambooth"]])
    assert len(found) == sum(len(source.actors) == 1 for source in cases.sources) > 4
    assert {case.edit.meaning.objects for case in found} == {("sks",)}


def test_the_meter_sees_seconds_and_memory():
    with measured(torch.device("cpu")) as cost:
        torch.ones(8, 2**20).sum()
    assert cost.seconds > 0
    assert cost.peak_mb is None or cost.peak_mb > 32


# -- the table


def fake(row: str, prompt: str, success: float, errors: list[float]) -> dict:
    return {
        "source": "s",
        "row": row,
        "kind": "object",
        "prompt": prompt,
        "seed": 0,
        "edit_success": success,
        "source_kept": 1.0,
        "motion_errors": errors,
        "frame_consistency": 99.0 if row == "full" else 90.0,
        "warping_error": 0.001,
        "background_psnr": 30.0,
        "reconstruction_psnr": None,
        "costs": {"sample": {"seconds": 2.0, "peak_mb": 100}},
    }


def test_summary_pools_frames_and_spreads_over_cases():
    results = [
        fake("full", "a", 1.0, [1.0, 2.0, 3.0]),
        fake("full", "b", 0.5, [5.0, 5.0, 5.0]),
        fake("per-frame-attention", "a", 1.0, [1.0, 2.0, 3.0]),
        fake("per-frame-attention", "b", 1.0, [5.0, 5.0, 5.0]),
    ]
    found = table.summary(results)
    full = found["full"]["all"]
    assert full["edit_success"] == {"mean": 0.75, "std": pytest.approx(0.3536, abs=1e-4), "cases": 2}
    assert full["motion_median"]["mean"] == np.median([1, 2, 3, 5, 5, 5])
    assert full["motion_p90"]["mean"] == pytest.approx(np.quantile([1, 2, 3, 5, 5, 5], 0.9))
    assert full["motion_median"]["std"] == pytest.approx(np.std([2, 5], ddof=1))
    difference = found["per-frame-attention"]["against full"]
    assert difference["edit_success"] == {"mean": 0.25, "error": 0.25, "cases": 2}
    assert difference["frame_consistency"]["mean"] == pytest.approx(-9.0)
    assert "reconstruction_psnr" not in full
    remarks = "\n".join(table.remarks(found))
    assert "target: edit success at least 90 %: 75.0, NOT met" in remarks
    assert "target: motion error (median) at most 4 px: 4.0, met" in remarks
    assert "without sparse-causal attention: frames agree less: yes, clearly" in remarks
    assert "| this project | 75 ± 35 |" in table.markdown(found, "command")
    json.dumps(found, allow_nan=False)


# -- all of it


def test_a_whole_run_that_is_not_computed_twice(small_file, tmp_path, weights, capfd):
    arguments = ["--cases", small_file, "--limit", "1", "--device", "cpu"]
    arguments += ["--checkpoint", weights / "model.safetensors", "--judge", weights / "judge.safetensors"]
    arguments += ["--work", tmp_path / "work", "--json", tmp_path / "o.json", "--markdown", tmp_path / "o.md"]
    arguments = [str(argument) for argument in [*arguments, "--sheets", tmp_path / "sheets"]]
    assert edits(arguments) == 0
    with Image.open(tmp_path / "sheets" / "rabbit-object-0.png") as sheet:
        assert sheet.width >= 4 * 128 and sheet.height >= (1 + len(DEFAULT)) * 128
    report = json.loads((tmp_path / "o.json").read_text(), parse_constant=pytest.fail)
    assert set(report["rows"]) == set(DEFAULT)
    assert len(report["results"]) == len(DEFAULT)
    by_row = {result["row"]: result for result in report["results"]}
    assert by_row["full"]["reconstruction_psnr"] > 0
    assert by_row["random-noise"]["reconstruction_psnr"] is None
    assert set(by_row["full"]["costs"]) == {"encode", "tune", "invert", "sample", "decode"}
    assert set(by_row["image"]["costs"]) == {"encode", "sample", "decode"}
    assert len(list((tmp_path / "work").glob("*.png"))) == len(DEFAULT)
    assert "| this project |" in (tmp_path / "o.md").read_text()
    assert "without temporal attention" in capfd.readouterr().out
    assert edits(arguments) == 0
    assert f"{len(DEFAULT)} cases, {len(DEFAULT)} of them done before" in capfd.readouterr().out
    assert json.loads((tmp_path / "o.json").read_text()) == report


def test_rows_with_companions_run_when_named(small_file, tmp_path, weights, capfd):
    arguments = [
        "--cases",
        small_file,
        "--limit",
        "1",
        "--device",
        "cpu",
        "--json",
        tmp_path / "o.json",
    ]
    arguments += ["--checkpoint", weights / "model.safetensors", "--judge", weights / "judge.safetensors"]
    arguments += ["--controlnet", weights / "controlnet.safetensors", "--work", tmp_path / "work"]
    arguments += ["--rows", "controlnet,dreambooth", "--dreambooth", weights / "dreambooth.safetensors"]
    arguments = [str(argument) for argument in arguments]
    assert edits(arguments) == 0
    first, second = json.loads((tmp_path / "o.json").read_text())["results"]
    assert (first["row"], first["prompt"]) == ("controlnet", "a cat on the grass")
    assert (second["row"], second["prompt"]) == ("dreambooth", "a sks on the grass")
    assert len(second["motion_errors"]) == 4 and 0 <= second["edit_success"] <= 1
    assert second["reconstruction_psnr"] > 0
    capfd.readouterr()
    with pytest.raises(DevError, match="no such|There is no file"):
        edits([*arguments, "--dreambooth", str(tmp_path / "none.safetensors")])


def test_a_companion_s_result_depends_on_its_file(small_file, tmp_path, weights):
    cases = load_cases(small_file)
    plain, controlled = all_cases(cases, [ROWS["full"], ROWS["controlnet"]], limit=1)
    stores = [
        Store(tmp_path, cases.settings, [weights / "model.safetensors"], {"controlnet": weights / name})
        for name in ("controlnet.safetensors", "judge.safetensors")
    ]
    assert stores[0].path(plain) == stores[1].path(plain)
    assert stores[0].path(controlled) != stores[1].path(controlled)


def test_ablations_take_away_what_they_say(small_file, weights):
    cases = load_cases(small_file)
    base, device = weights / "model.safetensors", torch.device("cpu")
    files = {kind: weights / f"{kind}.safetensors" for kind in ("controlnet", "dreambooth")}
    companions = Companions(base, files, device)
    run = SourceRun(Model(base, device), cases.sources[0], cases.settings, 0, companions)
    frames = {name: run.edit(ROWS[name], "a cat on the grass").frames for name in ROWS}
    torch.testing.assert_close(frames["source"], run.frames)
    names = list(ROWS)
    for index, name in enumerate(names):
        assert frames[name].shape == run.frames.shape
        for other in names[index + 1 :]:
            assert not torch.equal(frames[name], frames[other]), f"{name} and {other} are the same"
    assert run.edit(ROWS["full"], "a cat on the grass").frames.equal(frames["full"])


def test_the_command_line(capfd):
    with pytest.raises(SystemExit):
        edits(["--rows", "full,nothing"])
    assert "unknown 'nothing'" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        edits(["--set", "guidence=3"])
    assert "unknown setting 'guidence'" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        bench.main(["other"])
