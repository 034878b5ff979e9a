"""Names that come from outside: a plain name is taken, everything else is refused in one sentence, nothing leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from workbench import Workbench, assert_plain

# What paths are made of, and what JSON can hold beside it.
PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "~", "C:", " ", "\0", "\n", "%date%", "é", "兔", "\ud800", "a" * 90]
)
NAMES = st.lists(PIECES | st.text(max_size=5), max_size=8).map("".join)
thoroughly = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def kept(bench: Workbench) -> Path:
    """A listed file, and beside it one of another kind that is none."""
    folder = Path(bench.folders.get_folder_paths("tune_a_video")[0])
    path = folder / "kept.safetensors"
    bench.weights().save(path)
    bench.weights().save(path.with_suffix(".ckpt"))
    assert bench.node("TAVLoadWeights").validate_inputs(file=path.name) is True
    return path


@example("a\ud800")
@example("兔" * 70)
@example("a/" * 3000 + "b")
@example("\U000e0001" * 80 + "/../x")
@thoroughly
@given(prefix=NAMES)
def test_any_prefix_is_a_file_inside_or_one_sentence(bench: Workbench, folder: Path, prefix: str) -> None:
    files = bench.pack("nodes.comfy.files")
    problem = files.prefix_problem(prefix)
    for node in ("TAVTune", "TAVSaveWeights", "TAVSaveOfficial", "TAVSaveQueryLora"):
        assert (bench.node(node).validate_inputs(filename_prefix=prefix) is True) == (problem is None)
    if problem is not None:
        assert_plain(problem, "'filename_prefix'", "models/tune_a_video")
        with pytest.raises(ValueError, match="'filename_prefix'"):
            files.new_path(prefix)
        return
    path = files.new_path(prefix)
    assert path.resolve().is_relative_to(folder.resolve()) and path.suffix == ".safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.unlink()


@example("\U000e0001" * 200)
@example("a" * 5000)
@example("a\ud800.mp4")
@thoroughly
@given(name=NAMES)
def test_any_name_of_a_video_is_inside_or_one_sentence(bench: Workbench, name: str) -> None:
    answer = bench.node("TAVLoadVideo").validate_inputs({}, video=name)
    assert_plain(answer, "Load Video Frames (video): ")


@example("../kept.safetensors")
@example("kept.ckpt")
@thoroughly
@given(name=NAMES)
def test_only_listed_files_are_read(bench: Workbench, kept: Path, name: str) -> None:
    node = bench.node("TAVLoadWeights")
    assert_plain(node.validate_inputs(file=name), "models/tune_a_video")
    with pytest.raises(ValueError, match="no such file"):
        bench.run(node, file=name)


def test_a_name_of_other_scripts_is_kept(bench: Workbench, folder: Path) -> None:
    bench.run(
        "TAVSaveWeights",
        weights=bench.weights(),
        filename_prefix="clips/Häschen 兔子",
        precision="fp32 (exact)",
    )
    (path,) = (folder / "clips").glob("Häschen 兔子_*.safetensors")
    assert path.relative_to(folder).as_posix() in bench.pack("nodes.comfy.files").names()
