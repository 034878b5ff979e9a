"""Makes torchvision and torchaudio importable next to a CPU build of torch.

The registry's torchvision and torchaudio are built for CUDA. Next to a CPU build of torch their libraries do
not load and the import fails, and with it that of transformers, diffusers and ComfyUI. Then, and only then:

- torchvision gets the two operators whose absence is what fails (never called by us), and is imported again;
- torchaudio becomes an empty package.

A user's machine needs none of it. It works lazily, as an import hook that wraps the loaders of these two
packages: a process that imports neither pays nothing.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_AUDIO_PARTS = ("torchaudio.functional", "torchaudio.transforms")
_libraries = []  # a torch.library.Library takes its operators along when it is collected


def _is_cpu_torch() -> bool:
    import torch

    return torch.version.cuda is None and torch.version.hip is None


def _forget(package: str) -> None:
    """Remove the half-imported parts of `package`, but not the package itself, which is being imported."""
    for name in [name for name in sys.modules if name.startswith(package + ".")]:
        del sys.modules[name]


class _VisionLoader:
    """Loads torchvision; defines the missing operators when the first try fails for want of them."""

    def __init__(self, real) -> None:
        self.real = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module) -> None:
        try:
            self.real.exec_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error) or not _is_cpu_torch():
                raise
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                library.define(operator)
            _libraries.append(library)
            _forget("torchvision")
            self.real.exec_module(module)


class _AudioLoader(_VisionLoader):
    """Loads torchaudio; leaves an empty package when its libraries do not load."""

    def exec_module(self, module) -> None:
        try:
            self.real.exec_module(module)
        except (ImportError, OSError, RuntimeError):
            if not _is_cpu_torch():
                raise
            _forget("torchaudio")
            for name in _AUDIO_PARTS:
                part = types.ModuleType(name)
                part.__spec__ = importlib.machinery.ModuleSpec(name, None)
                sys.modules[name] = part
                setattr(module, name.rpartition(".")[2], part)


_LOADERS = {"torchvision": _VisionLoader, "torchaudio": _AudioLoader}


class _Finder:
    """Wraps the loader of the two packages; finds nothing else."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in _LOADERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LOADERS[name](spec.loader)
        return spec


def install() -> None:
    """Put the hook in place (once)."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
