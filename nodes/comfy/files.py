"""Where tuned weights live: ``models/tune_a_video``, safetensors only, never outside of it."""

import logging
import re
import shutil
import tempfile
from pathlib import Path

import folder_paths
import torch

from ...tav_core.files.weights import TunedWeights, WeightsError
from ...tav_core.tuning.run import is_run

FOLDER = "tune_a_video"
# Bytes; file systems take 255, and a number and an ending are added.
_LONGEST_PREFIX = 200
# What some file system refuses; halves of characters that take two come from JSON.
_UNFIT = r'[\x00-\x1f\\:*?"<>|\ud800-\udfff]'
# How tensors are stored in files that a user saves.
PRECISIONS = {"fp32 (exact)": torch.float32, "fp16 (half the size)": torch.float16}


def register_folder() -> None:
    """Makes ComfyUI list ``models/tune_a_video`` (and the same in extra model paths)."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER), is_default=True)
    # ComfyUI would otherwise list files of every kind.
    paths = folder_paths.folder_names_and_paths[FOLDER][0]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def names() -> list[str]:
    """The tuned-weights files that can be chosen; not the networks in folders of the official code."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if not _is_pipeline_part(Path(name))]


def _is_pipeline_part(path: Path) -> bool:
    """Whether ``path`` is one of the networks that diffusers saves in a pipeline's folder."""
    kinds = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
    kinds |= {"text_encoder": "model", "safety_checker": "model"}
    # A lone UNet folder may have any name; "model" alone is a name that a user may choose.
    return path.name.startswith(kinds.get(path.parent.name, "diffusion_pytorch_model"))


def load(name: str) -> TunedWeights:
    """Reads one of `names`. Raises WeightsError if it is not there or not sound."""
    if name not in names():
        raise WeightsError(f"{name}: there is no such file in models/{FOLDER}")
    return TunedWeights.load(Path(folder_paths.get_full_path_or_raise(FOLDER, name)))


def prefix_problem(prefix: str | None, models: str = FOLDER) -> str | None:
    """One plain sentence if ``prefix`` would leave the folder ``models`` or name nothing; None if it is fine.

    A prefix of None comes over a connection; it is looked at when it is known.
    """
    if prefix is None:
        return None
    stem = Path(prefix.strip())
    if (
        stem.name
        and not stem.is_absolute()
        and ".." not in stem.parts
        and not re.search(_UNFIT, prefix.strip())
        and len(prefix.encode()) <= _LONGEST_PREFIX
    ):
        return None
    return (
        f"The input 'filename_prefix' must be a name inside models/{models}, such as skiing or clips/skiing, "
        f"not {prefix!r:.90}."
    )


def new_path(prefix: str, models: str = FOLDER) -> Path:
    """A path for a new file in the folder ``models``: ``<prefix>_00001.safetensors`` with the first free number.

    ``prefix`` may hold subfolders and ComfyUI's %year% and so on. Raises ValueError if it leaves the folder, OSError
    with one plain sentence if its subfolder cannot be made.
    """
    problem = prefix_problem(prefix, models)
    if problem:
        raise ValueError(problem)
    base = Path(folder_paths.get_folder_paths(models)[0])
    if not (base / prefix.strip()).resolve().is_relative_to(base.resolve()):
        raise ValueError(
            f"The input 'filename_prefix' leads over a link out of models/{models}; choose a folder that is inside."
        )
    try:
        folder, name, _, _, _ = folder_paths.get_save_image_path(prefix.strip(), str(base))
    except OSError as error:
        raise _unwritable((base / prefix.strip()).parent, error) from error
    return first_free(Path(folder), name, ".safetensors")


def first_free(folder: Path, name: str, suffix: str = "") -> Path:
    """``<name>_00001<suffix>`` in ``folder`` with the first number that is free."""
    number = 1
    while (path := folder / f"{name}_{number:05}{suffix}").exists():
        number += 1
    return path


class RunFolder:
    """`tav_core.tuning.run.RunFiles` in models/tune_a_video; a new file is named by `new_path` of ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def find(self, run: str, steps: int) -> Path | None:
        """See `RunFiles.find`."""
        for name in names():
            path = Path(folder_paths.get_full_path_or_raise(FOLDER, name))
            try:
                if is_run(path, run, steps):
                    return path
            except WeightsError as error:
                logging.info("Tune on One Video: %s is not looked at for a finished run: %s", name, error)
        return None

    def new(self, run: str, size: int) -> Path:
        """See `RunFiles.new`."""
        path = new_path(self.prefix)
        _check_room(path.parent, size)
        return path

    def state(self, run: str) -> Path:
        """See `RunFiles.state`; ComfyUI does not list it."""
        return Path(folder_paths.get_folder_paths(FOLDER)[0]) / "unfinished" / f"{run}.state"


def _check_room(folder: Path, size: int) -> None:
    """Raises OSError with one plain sentence unless a file of ``size`` bytes can be written to ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _unwritable(folder, error) from error
    if free < size:
        raise OSError(
            f"The disk with {folder} has {free / 1e6:.0f} MB left and tuning may need {size / 1e6:.0f} MB; make room."
        )


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(f"The folder {folder} cannot be written ({error.strerror}); give ComfyUI the right to.")


def stamp(name: str | None) -> str:
    """Changes when the file does, so that ComfyUI reads it again. A name of None comes over a connection."""
    path = folder_paths.get_full_path(FOLDER, name) if name is not None else None
    if path is None:
        return ""
    status = Path(path).stat()
    return f"{path}:{status.st_mtime_ns}:{status.st_size}"
