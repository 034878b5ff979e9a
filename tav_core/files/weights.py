"""The tuned-weights file: one small safetensors file that holds only what tuning changed.

Tensors, float32 or float16, by diffusers block name (``down_blocks.0.attentions.0.transformer_blocks.0`` ...):

- ``<block>.attn1.to_q.diff``, ``<block>.attn2.to_q.diff``: (out, in) difference to the base model's query weight;
- ``<...>.to_q.weight``: (out, in) the tuned query weight itself, beside a ``.diff`` that cannot give every bit of it
  back; only imports of official files have it, and only saving in the official layout reads it;
- ``<...>.to_q.lora_up.weight`` (out, rank) and ``.lora_down.weight`` (rank, in): the same at low rank, up @ down;
- ``<block>.attn_temp.{to_q,to_k,to_v}.weight``, ``.to_out.0.weight``, ``.to_out.0.bias``, and ``<block>.norm_temp``
  where it is not neutral: the temporal layer, under the official code's names.
"""

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import __version__
from ..atomic import save_tensors
from ..inflation.host import TransformerBlock
from ..inflation.mode import InflationMode

_log = logging.getLogger(__name__)
FORMAT = "tune-a-video"
FORMAT_VERSION = 1
QUERIES = (".attn1.to_q.weight", ".attn2.to_q.weight")
_READ_DTYPES = ("F32", "F16", "BF16", "F64")
# No layer of Stable Diffusion's UNet comes near.
_LONGEST_NAME = 200
_MOST_VALUES = 2**28
_FINGERPRINTED = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", "attn2.to_k", "attn2.to_v")


class WeightsError(ValueError):
    """A file is not a tuned-weights file, is damaged, or does not fit a model."""


@dataclass(frozen=True)
class TunedMetadata:
    """How a set of tuned weights came about.

    base_fingerprint: `fingerprint` of the model it was tuned on. width, height: pixels. frame_stride: every how
    many-th frame of the source was used. learning_rate: the peak. loss_first, loss_last: means over the first and
    last tenth of the steps; losses: all of them, as a JSON list. run: `tav_core.tuning.run.run_fingerprint`.
    """

    base_fingerprint: str = ""
    prediction_type: str = "epsilon"
    prompt: str = ""
    frames: int = 0
    width: int = 0
    height: int = 0
    frame_stride: int = 0
    steps: int = 0
    learning_rate: float = 0.0
    trainable: str = "queries + temporal"
    attention: str = "first+previous"
    norm: str = "joint"
    seed: int = 0
    loss_first: float = 0.0
    loss_last: float = 0.0
    losses: str = ""
    run: str = ""
    program_version: str = __version__

    @property
    def mode(self) -> InflationMode:
        """How the model was inflated. Raises ValueError for a mode this version does not know."""
        # InflationMode itself refuses words that are not a mode.
        return InflationMode(self.attention, self.norm)  # type: ignore[arg-type]

    def to_header(self) -> dict[str, str]:
        """As the string pairs of a safetensors header."""
        # A lone surrogate, which a prompt from JSON may hold, cannot be written to a file.
        text = {name: str(value) for name, value in dataclasses.asdict(self).items()}
        fields = {name: value.encode("utf-8", "replace").decode("utf-8") for name, value in text.items()}
        return {"format": FORMAT, "format_version": str(FORMAT_VERSION), **fields}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> "TunedMetadata":
        """Reads `to_header`'s pairs; unknown ones are ignored, missing ones get their default.

        Raises WeightsError if the header is another program's, from a later format, or holds a malformed value.
        """
        if header.get("format") != FORMAT:
            raise WeightsError("it is not a Tune-A-Video file")
        version = header.get("format_version", "")
        if not (version.isascii() and version.isdecimal()):
            raise WeightsError("its entry 'format_version' is malformed")
        if len(version) > 9 or int(version) > FORMAT_VERSION:
            raise WeightsError(
                f"its format version {version[:20]} is newer than this program; update the pack"
            )
        values = {}
        for entry in dataclasses.fields(cls):
            if entry.name in header:
                kind: Any = type(entry.default)
                try:
                    values[entry.name] = kind(header[entry.name])
                except ValueError as error:
                    raise WeightsError(f"its entry {entry.name!r} is malformed") from error
                if kind is float and not math.isfinite(values[entry.name]):
                    raise WeightsError(f"its entry {entry.name!r} is malformed")
        return cls(**values)


@dataclass(frozen=True)
class TunedWeights:
    """What one tuning run learned: tensors by the names above, on the CPU, and how they came about."""

    tensors: dict[str, Tensor]
    metadata: TunedMetadata = field(default_factory=TunedMetadata)

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes the file in one go: it is whole under ``path`` or not there. Raises OSError if it cannot.

        Other dtypes than float32 leave out whole query weights, which a rounded difference gives as well.
        """
        exact = dtype == torch.float32
        kept = {name: t.to(dtype) for name, t in self.tensors.items() if exact or not name.endswith(QUERIES)}
        save_tensors(path, kept, self.metadata.to_header())

    @classmethod
    def load(cls, path: Path) -> "TunedWeights":
        """Reads a file. Raises WeightsError with one plain sentence if it is not a sound tuned-weights file."""
        with _opened(path) as file:
            metadata = TunedMetadata.from_header(file.metadata() or {})
            for name in file.keys():
                _check_entry(name, file.get_slice(name))
            # Copies, because a file that is still mapped into memory cannot be replaced on Windows.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
                raise WeightsError(f"{path.name}: {name} holds values that are not finite numbers")
        return cls(tensors, metadata)

    @staticmethod
    def peek(path: Path) -> tuple[TunedMetadata, set[str]]:
        """Reads only how a file came about and its tensors' dtypes ("F32", "F16"). Raises WeightsError as `load`."""
        with _opened(path) as file:
            metadata = TunedMetadata.from_header(file.metadata() or {})
            return metadata, {file.get_slice(name).get_dtype() for name in file.keys()}


def warn_of_another_base(metadata: TunedMetadata, base: str) -> None:
    """Logs a warning if weights were tuned on another base than the one with this fingerprint."""
    if metadata.base_fingerprint not in ("", base):
        # Not refused: a DreamBooth of the base has another fingerprint.
        _log.warning(
            "these weights were tuned on another base model; relatives of it work, others give noise"
        )


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """An open safetensors file; whatever goes wrong with it becomes a WeightsError that names it."""
    if not path.is_file():
        raise WeightsError(f"{path.name}: there is no such file")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name}: the file is damaged or not a safetensors file; copy or tune it again"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error


def _check_entry(name: str, entry: Any) -> None:
    """Refuses, before it is read, a tensor that no tuned file holds and that torch might choke on."""
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise WeightsError(f"it holds a tensor with the name {name[:40]!r:.60}, which no layer has")
    dtype, shape = entry.get_dtype(), entry.get_shape()
    if dtype not in _READ_DTYPES:
        raise WeightsError(f"{name} holds values of the type {dtype[:20]}; tuned weights are F32 or F16")
    if len(shape) > 2 or math.prod(shape) > _MOST_VALUES or 0 in shape:
        raise WeightsError(f"{name} has the shape {str(shape)[:60]}, which no layer has")


def check_prediction_type(metadata: TunedMetadata, model: str) -> None:
    """Raises WeightsError if the weights were tuned on a model that predicts something else than ``model``."""
    if metadata.prediction_type != model:
        raise WeightsError(
            f"the weights were tuned on a model of the prediction type {metadata.prediction_type[:20]!r}, and this "
            f"model's is {model!r}; apply them to the kind of model they were tuned on"
        )


def check_fit(tensors: Mapping[str, Tensor], blocks: Mapping[str, TransformerBlock]) -> None:
    """Raises WeightsError, naming the first misfits, unless every tensor fits the model's transformer blocks."""
    expected = expected_shapes(tensors, blocks)
    misfits = [f"{name} is missing" for name in expected if name not in tensors]
    for name, tensor in tensors.items():
        if name not in expected:
            misfits.append(f"{name} is {list(tensor.shape)}, which the model has not")
        elif expected[name] != tensor.shape:
            misfits.append(f"{name} is {list(tensor.shape)} where the model has {list(expected[name])}")
        elif name.endswith(".diff") and name.replace(".diff", ".lora_up.weight") in tensors:
            misfits.append(f"{name} stands beside a low-rank difference of the same layer")
    if misfits:
        rest = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise WeightsError(
            f"the tuned weights do not fit this model: {'; '.join(misfits[:3])}{rest}; "
            "apply them to the kind of model they were tuned on"
        )


def expected_shapes(
    tensors: Mapping[str, Tensor], blocks: Mapping[str, TransformerBlock]
) -> dict[str, torch.Size]:
    """The shapes that tensors of these names must have on a model with ``blocks``.

    Names that the model cannot have are left out; parts that a name's layer also needs are included.
    """
    shapes: dict[str, torch.Size] = {}
    for name, block in blocks.items():
        for attention, module in (("attn1", block.attn1), ("attn2", block.attn2)):
            layer = f"{name}.{attention}.to_q"
            rows, columns = module.to_q.weight.shape
            if f"{layer}.diff" in tensors or f"{layer}.weight" in tensors:
                shapes[f"{layer}.diff"] = torch.Size([rows, columns])
            if f"{layer}.weight" in tensors:
                shapes[f"{layer}.weight"] = torch.Size([rows, columns])
            down, up = f"{layer}.lora_down.weight", f"{layer}.lora_up.weight"
            if down in tensors or up in tensors:
                given = tensors[down if down in tensors else up]
                rank = given.shape[0 if down in tensors else -1] if given.ndim == 2 else 1
                shapes |= {down: torch.Size([rank, columns]), up: torch.Size([rows, rank])}
        if any(key.startswith(f"{name}.attn_temp.") for key in tensors):
            dim = block.attn1.to_q.weight.shape[1]
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                shapes[f"{name}.attn_temp.{part}.weight"] = torch.Size([dim, dim])
            for part in ("attn_temp.to_out.0.bias", "norm_temp.weight", "norm_temp.bias"):
                if f"{name}.{part}" in tensors:
                    shapes[f"{name}.{part}"] = torch.Size([dim])
    return shapes


def query_deltas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float32 weight differences (out, in) that the tensors of a tuned-weights file stand for."""
    deltas = {}
    for name, tensor in tensors.items():
        if name.endswith(".to_q.diff"):
            deltas[name.removesuffix(".diff")] = tensor.float()
        elif name.endswith(".to_q.lora_up.weight"):
            layer = name.removesuffix(".lora_up.weight")
            deltas[layer] = tensor.float() @ tensors[f"{layer}.lora_down.weight"].float()
    return deltas


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits that tell base models apart, whatever host or dtype (fp16, bf16, fp32) they are loaded in.

    ``weights`` are the model's attention query, key and value weights by diffusers name
    (``<block>.attn1.to_q.weight``); others are ignored. Only shapes and signs count: rounding to another dtype
    keeps every sign (also that of what becomes zero), while another training turns thousands of them.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.removesuffix(".weight").endswith(_FINGERPRINTED):
            signs = torch.signbit(weights[name].detach().float()).cpu().numpy()
            digest.update(json.dumps([name, list(signs.shape)]).encode())
            digest.update(np.packbits(signs).tobytes())
    return digest.hexdigest()[:16]


def loss_summary(losses: list[float]) -> tuple[float, float]:
    """Mean loss over the first and over the last tenth of the steps; zeros if there were none."""
    if not losses:
        return 0.0, 0.0
    tenth = max(1, len(losses) // 10)
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
