"""Where tuned weights live: ``models/tune_a_video``, safetensors only, never outside of it."""

from pathlib import Path

import folder_paths

from ...tav_core.weights import TunedWeights, WeightsError

FOLDER = "tune_a_video"


def register_folder() -> None:
    """Makes ComfyUI list ``models/tune_a_video`` (and the same in extra model paths)."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER), is_default=True)
    # ComfyUI would otherwise list files of every kind.
    paths = folder_paths.folder_names_and_paths[FOLDER][0]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def names() -> list[str]:
    """The tuned-weights files that can be chosen."""
    return folder_paths.get_filename_list(FOLDER)


def load(name: str) -> TunedWeights:
    """Reads one of `names`. Raises WeightsError if it is not there or not sound."""
    if name not in names():
        raise WeightsError(f"{name}: there is no such file in models/{FOLDER}")
    return TunedWeights.load(Path(folder_paths.get_full_path_or_raise(FOLDER, name)))


def prefix_problem(prefix: str) -> str | None:
    """One plain sentence if ``prefix`` would leave the folder or name nothing; None if it is fine."""
    stem = Path(prefix.strip())
    if (
        stem.name
        and not stem.is_absolute()
        and ".." not in stem.parts
        and not set(prefix) & set('\\:*?"<>|\0')
    ):
        return None
    return (
        f"The input 'filename_prefix' must be a name inside models/{FOLDER}, such as skiing or clips/skiing, "
        f"not {prefix[:80]!r}."
    )


def new_path(prefix: str) -> Path:
    """A path for a new file: ``<prefix>_00001.safetensors`` with the first free number.

    ``prefix`` may hold subfolders and ComfyUI's %year% and so on. Raises ValueError if it leaves the folder.
    """
    problem = prefix_problem(prefix)
    if problem:
        raise ValueError(problem)
    base = Path(folder_paths.get_folder_paths(FOLDER)[0])
    folder, name, _, _, _ = folder_paths.get_save_image_path(prefix.strip(), str(base))
    number = 1
    while (path := Path(folder) / f"{name}_{number:05}.safetensors").exists():
        number += 1
    return path


def stamp(name: str) -> str:
    """Changes when the file does, so that ComfyUI reads it again."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        return ""
    status = Path(path).stat()
    return f"{path}:{status.st_mtime_ns}:{status.st_size}"
