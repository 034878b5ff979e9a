"""Tune-A-Video folders as the official code saves them, read and written.

Such a folder is a diffusers pipeline whose ``unet/`` holds a UNet3DConditionModel: config.json and
diffusion_pytorch_model.bin or .safetensors with *all* weights, the tuned ones among them. Ours are a difference to
a base model, so both directions need that base: its UNet's tensors by diffusers names.

Round trips are exact:

- official, ours, official: queries are bit-identical. A float32 difference cannot restore a value that was tuned to
  nearly zero, so the weights of such layers are stored beside their difference and used here only.
- ours, official, ours: the folder also holds our own file (`SIDECAR`), which the official code ignores. It is used
  if it matches the UNet beside it.
"""

import json
import logging
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import save_tensors, save_text
from .weights import QUERIES, TunedMetadata, TunedWeights, WeightsError, check_fit, fingerprint

WEIGHTS = "diffusion_pytorch_model"
SIDECAR = "tune_a_video.safetensors"
_TEMPORAL = (".attn_temp.", ".norm_temp.")
_PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
_LISTED = 2
# What the official class registers, in its order, with its defaults.
_CONFIG = {
    "sample_size": None,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": None,
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "up_block_types": None,
    "only_cross_attention": False,
    "block_out_channels": None,
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "attention_head_dim": 8,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "class_embed_type": None,
    "num_class_embeds": None,
    "upcast_attention": False,
    "resnet_time_scale_shift": "default",
}
_BLOCK_TYPES = ("CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")


def load_official(
    source: Path, base: Mapping[str, Tensor], exact: bool = True, prediction_type: str = "epsilon"
) -> TunedWeights:
    """Tuned weights from a pipeline folder, its ``unet`` folder or the weights file in it.

    ``base`` holds the base UNet's tensors, ``prediction_type`` is what it predicts. Temporal layers are taken as they
    are, the random output bias of the official code included; queries as difference to ``base``. ``exact`` keeps every
    bit of them (see above), in a file up to a third larger; without it single values are off by a float32 rounding.

    Everything else should be the base's, up to rounding to float16. Where it is not, the folder was tuned on
    another base; that is a warning in the log that names the tensors, for a relative still works. Tensors that are
    missing, unknown or of other shapes raise WeightsError, and so do a file that is not sound and a scheduler that
    cannot be read or is for another prediction type.
    """
    path = weights_file(Path(source))
    official = _read(path)
    blocks = [name.split(".attn_temp.")[0] for name in official if name.endswith(".attn_temp.to_q.weight")]
    if not blocks:
        raise WeightsError(f"{path.name}: it has no temporal attention, so it is not a Tune-A-Video UNet")
    _check_names(path, official, base)
    predicts = _prediction_type(path.parent.parent, prediction_type)
    own = _sidecar(path, official, base)
    if own is not None:
        return own
    _warn_of_another_base(path, official, base)
    tensors: dict[str, Tensor] = {}
    for name, tensor in official.items():
        if name.endswith(QUERIES):
            tensors |= query_difference(name.removesuffix(".weight"), tensor, base[name], exact)
        elif any(part in name for part in _TEMPORAL):
            tensors[name] = tensor.float()
    for block in blocks:
        _drop_neutral_norm(tensors, block)
    return TunedWeights(tensors, TunedMetadata(base_fingerprint=fingerprint(base), prediction_type=predicts))


def save_official(
    folder: Path,
    weights: TunedWeights,
    base: Mapping[str, Tensor],
    config: Mapping,
    pipeline: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes ``folder``/unet as the official code would, with our own file beside the weights.

    ``base`` holds the base UNet's tensors and ``config`` its diffusers configuration (2D or 3D class). With
    ``pipeline``, a diffusers folder, its VAE, text encoder, tokenizer and scheduler are copied and a
    model_index.json is written, which makes ``folder`` a whole pipeline. Raises WeightsError if the weights do not
    fit, and OSError if there is a UNet already or the folder cannot be written.
    """
    unet = Path(folder) / "unet"
    if unet.exists():
        raise FileExistsError(f"{unet} exists already; choose another folder")
    index = None if pipeline is None else _pipeline_index(Path(pipeline))
    tensors = {name: tensor.to(dtype) for name, tensor in official_tensors(weights, base).items()}
    text = json.dumps(official_config(config), indent=2) + "\n"
    own = {tensor.dtype for tensor in weights.tensors.values()}
    try:
        save_tensors(unet / f"{WEIGHTS}.safetensors", tensors, {"format": "pt"})
        weights.save(unet / SIDECAR, own.pop() if len(own) == 1 else torch.float32)
        save_text(unet / "config.json", text)
        if pipeline is not None and index is not None:
            _copy_pipeline(Path(pipeline), index, Path(folder))
    except BaseException:
        # Half a UNet would be taken for a whole one, and be in the way of the next try.
        shutil.rmtree(unet, ignore_errors=True)
        raise


def official_tensors(weights: TunedWeights, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All float32 tensors of the tuned 3D UNet, by the official names. Raises WeightsError for weights that misfit.

    Blocks without temporal layers get ones that add nothing, for the official class has them everywhere.
    """
    blocks = _blocks(base)
    check_fit(weights.tensors, blocks)
    own = weights.tensors
    if weights.metadata.base_fingerprint != fingerprint(base):
        # Whole weights are those of their own base; to another one only the difference can be added.
        own = {name: tensor for name, tensor in own.items() if not name.endswith(QUERIES)}
    tensors = {}
    for name, tensor in base.items():
        tuned = name.endswith(QUERIES)
        layer = name.removesuffix(".weight")
        tensors[name] = query_weight(layer, tensor, own) if tuned else tensor.detach().cpu().float()
    for name, block in blocks.items():
        dim = block.attn1.to_q.weight.shape[1]
        temporal = {f"{name}.attn_temp.{part}.weight": torch.zeros(dim, dim) for part in _PROJECTIONS}
        temporal[f"{name}.attn_temp.to_out.0.bias"] = torch.zeros(dim)
        temporal[f"{name}.norm_temp.weight"] = torch.ones(dim)
        temporal[f"{name}.norm_temp.bias"] = torch.zeros(dim)
        tensors |= {key: own.get(key, neutral).float() for key, neutral in temporal.items()}
    return tensors


def official_config(config: Mapping) -> dict:
    """The config.json of the official 3D UNet for a diffusers UNet's configuration.

    Raises WeightsError for a UNet with blocks that the official code has not.
    """
    ours = {name: config.get(name, default) for name, default in _CONFIG.items()}
    for name in ("down_block_types", "up_block_types"):
        kinds = [kind.replace("3D", "2D") for kind in ours[name] or ()]
        if not kinds or not set(kinds) <= set(_BLOCK_TYPES):
            raise WeightsError(
                f"the model's {name} {kinds} are not Stable Diffusion 1.x or 2.x's, which the official code needs"
            )
        ours[name] = [kind.replace("2D", "3D") for kind in kinds]
    ours["mid_block_type"] = _CONFIG["mid_block_type"]
    return {**ours, "_class_name": "UNet3DConditionModel", "_diffusers_version": "0.11.1"}


def query_difference(layer: str, tuned: Tensor, base: Tensor, exact: bool = True) -> dict[str, Tensor]:
    """The tensors of a tuned-weights file that stand for the query weight ``tuned`` (out, in).

    With ``exact``, `query_weight` restores it bit-identically from them. Raises WeightsError for values so large that
    float32 cannot hold the difference.
    """
    tuned, base = tuned.cpu().float(), base.detach().cpu().float()
    # Adding -0.0 keeps every value, the sign of a zero included.
    tensors = {f"{layer}.diff": torch.where(tuned == base, -0.0, tuned - base)}
    if not bool(tensors[f"{layer}.diff"].isfinite().all()):
        raise WeightsError(f"{layer}.weight is too large for a difference in float32")
    if exact and not _same_bits(query_weight(layer, base, tensors), tuned):
        tensors[f"{layer}.weight"] = tuned
    return tensors


def query_weight(layer: str, base: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """The tuned float32 weight (out, in) of ``layer`` at strength 1, on the CPU; the base's where nothing was tuned."""
    whole, difference = (tensors.get(f"{layer}.{part}") for part in ("weight", "diff"))
    if whole is not None:
        return whole.float()
    base = base.detach().cpu().float()
    if difference is not None:
        return base + difference.float()
    up, down = (tensors.get(f"{layer}.lora_{part}.weight") for part in ("up", "down"))
    # In double precision, so that every machine rounds alike.
    return base if up is None or down is None else (base.double() + up.double() @ down.double()).float()


def weights_file(source: Path) -> Path:
    """The UNet's weights in a pipeline folder or a ``unet`` folder, safetensors first; a file is itself.

    Raises WeightsError if there are none.
    """
    if source.is_file():
        return source
    for folder in (source / "unet", source):
        for suffix in (".safetensors", ".bin"):
            path = folder / f"{WEIGHTS}{suffix}"
            if path.is_file():
                return path
    raise WeightsError(
        f"{source.name}: it holds no Tune-A-Video UNet; the official code saves unet/{WEIGHTS}.bin in its folder"
    )


def _prediction_type(pipeline: Path, base: str) -> str:
    """What the scheduler in the folder ``pipeline`` says the network predicts; a folder without one has ``base``'s.

    Raises WeightsError if the scheduler cannot be read or says something else than ``base``.
    """
    path = pipeline / "scheduler" / "scheduler_config.json"
    if not path.exists():
        return base
    try:
        # A scheduler that does not say is one for noise, in diffusers as well.
        found = json.loads(path.read_text(encoding="utf-8")).get("prediction_type", "epsilon")
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{pipeline.name}: its scheduler/scheduler_config.json cannot be read; copy the folder again"
        ) from error
    if found != base:
        raise WeightsError(
            f"{pipeline.name}: its scheduler is for the prediction type {str(found)[:20]!r}, and the base model's is "
            f"{base!r}; give the model it was tuned on"
        )
    return base


def _pipeline_index(pipeline: Path) -> dict:
    """The parts of the folder ``pipeline`` by name. Raises WeightsError if there are none."""
    try:
        index = json.loads((pipeline / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    if not isinstance(index, dict):
        raise WeightsError(f"{pipeline.name}: it is not a diffusers folder with a model_index.json")
    return index


def _copy_pipeline(source: Path, index: dict, folder: Path) -> None:
    """Copies ``source`` but for its UNet to ``folder``, as a pipeline of the official code. Raises OSError.

    ``index`` is the source's `_pipeline_index`.
    """
    for part in _PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    ours: dict[str, object] = {"_class_name": "TuneAVideoPipeline", "_diffusers_version": "0.11.1"}
    ours |= {part: index[part] for part in _PARTS if part in index}
    ours |= {"unet": ["models", "UNet3DConditionModel"]}
    save_text(folder / "model_index.json", json.dumps(ours, indent=2) + "\n")


def _read(path: Path) -> dict[str, Tensor]:
    tensors = _read_pickle(path) if path.suffix == ".bin" else _read_safetensors(path)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path.name}: {name} holds values that are not finite numbers")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name}: the file is damaged or not a safetensors file") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The one place that opens a .bin file, which is a pickle: with tensors only, never with code."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path.name}: the file is damaged, or holds more than tensors and is not opened"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path.name}: it is not a table of tensors, as the official code saves it")
    return dict(tensors)


def _check_names(path: Path, official: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    image = {name: tensor for name, tensor in official.items() if not any(p in name for p in _TEMPORAL)}
    misfits = [f"{name} is missing" for name in base if name not in image]
    for name, tensor in image.items():
        if name not in base:
            misfits.append(f"{name} is unknown to the base")
        elif base[name].shape != tensor.shape:
            misfits.append(f"{name} is {list(tensor.shape)} where the base has {list(base[name].shape)}")
    if misfits:
        raise WeightsError(
            f"{path.name}: it does not fit the base model: {_some(misfits, '; ')}; give the model it was tuned on"
        )
    temporal = {name: tensor for name, tensor in official.items() if any(p in name for p in _TEMPORAL)}
    try:
        check_fit(temporal, _blocks(base))
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error


def _warn_of_another_base(path: Path, official: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    others = [
        name
        for name in base
        if not name.endswith(QUERIES) and not _equal_but_rounded(official[name], base[name])
    ]
    if others:
        logging.getLogger(__name__).warning(
            "%s was tuned on another base model: %d tensors that tuning leaves alone differ (%s). "
            "They are left out; the result may differ from the official code's.",
            path.name,
            len(others),
            _some(others, ", "),
        )


def _equal_but_rounded(ours: Tensor, theirs: Tensor) -> bool:
    """Whether one may be the other rounded to float16, or to the dtype that ``theirs`` is in."""
    unit = max(2.0**-11, torch.finfo(theirs.dtype).eps / 2)
    ours, theirs = ours.float(), theirs.detach().cpu().float()
    return bool(((ours - theirs).abs() <= ours.abs() * unit * 1.01 + 2.0**-25).all())


def _sidecar(path: Path, official: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> TunedWeights | None:
    """Our own file beside the weights, if it stands for the same tuned tensors on this base."""
    own = path.parent / SIDECAR
    if not own.is_file():
        return None
    try:
        weights = TunedWeights.load(own)
        tensors = official_tensors(weights, base)
    except WeightsError as error:
        logging.getLogger(__name__).warning("%s is not used: %s", own.name, error)
        return None
    tuned = (name for name in tensors if name.endswith(QUERIES) or any(p in name for p in _TEMPORAL))
    same = all(
        name in official and torch.equal(tensors[name].to(official[name].dtype), official[name])
        for name in tuned
    )
    return weights if same else None


def _blocks(base: Mapping[str, Tensor]) -> dict[str, SimpleNamespace]:
    """The base's transformer blocks, as `check_fit` looks at them."""
    blocks = {}
    for name in base:
        if name.endswith(QUERIES[0]):
            block = name.removesuffix(QUERIES[0])
            queries = (SimpleNamespace(to_q=SimpleNamespace(weight=base[block + q])) for q in QUERIES)
            blocks[block] = SimpleNamespace(**dict(zip(("attn1", "attn2"), queries, strict=True)))
    return blocks


def _drop_neutral_norm(tensors: dict[str, Tensor], block: str) -> None:
    """Our files leave a norm out that does nothing."""
    weight, bias = f"{block}.norm_temp.weight", f"{block}.norm_temp.bias"
    neutral = {weight: torch.ones_like, bias: torch.zeros_like}
    if all(n in tensors and _same_bits(tensors[n], like(tensors[n])) for n, like in neutral.items()):
        del tensors[weight], tensors[bias]


def _same_bits(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours.contiguous().view(torch.int32), theirs.contiguous().view(torch.int32))


def _some(names: list[str], separator: str) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return separator.join(names[:_LISTED]) + rest
