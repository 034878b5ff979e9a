"""The checks themselves, written once for both hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tav_core.diffusion.ddim import ddim_timesteps
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

from .reference import FRESH, NEUTRAL, TUNED, Reference, rows

FORWARD, GUIDED, LOSS, UPDATE, GRADIENT = 1e-5, 1e-4, 1e-6, 1e-3, 1e-4


@dataclass(frozen=True)
class Check:
    """One comparison. `measure` says what `value` is: relative_rms, or max_abs where the limit is absolute."""

    host: str
    name: str
    value: float
    limit: float
    measure: str = "relative_rms"
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the value is within the limit; a NaN is not."""
        return self.value <= self.limit

    def to_json(self) -> dict:
        """The printed form."""
        entry = {"host": self.host, "check": self.name, self.measure: self.value, "limit": self.limit}
        return entry | {"ok": self.ok} | ({"note": self.note} if self.note else {})


class Side(Protocol):
    """What a host must offer to be checked. Latents are rows (frames, 4, height, width) in the network's scale."""

    name: str

    def forward(self, variant: str, x: Tensor, timesteps: Tensor, context: Tensor, frames: int) -> Tensor:
        """The inflated network's answer to (batch * frames, 4, height, width); timesteps are (batch,)."""

    def modules(self, variant: str, names: list[str]) -> dict[str, tuple[nn.Module, nn.Module]]:
        """By the official code's module names: what takes a module's input, and what gives its output."""

    def tuner(
        self, variant: str, latents: Tensor, context: Tensor, settings: TuningSettings, **options
    ) -> Tuner:
        """A tuning run that starts from the weights of a variant."""

    def invert(self, latents: Tensor, context: Tensor, steps: int) -> list[Tensor]:
        """The tuned model's inversion trajectory, steps + 1 latents from the clean ones on."""

    def sample(
        self, start: Tensor, context: Tensor, uncond: Tensor | None, guidance: float, steps: int
    ) -> list[Tensor]:
        """The tuned model's latents after each DDIM step."""


def relative_rms(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def all_checks(reference: Reference, side: Side) -> Iterator[Check]:
    """Every check that the folder holds numbers for."""
    for group in (
        check_schedule,
        check_forward,
        check_intermediates,
        check_training,
        check_inversion,
        check_sampling,
    ):
        yield from group(reference, side)


def check_schedule(reference: Reference, side: Side) -> Iterator[Check]:
    """Noise levels and DDIM timesteps."""
    ours = reference.schedule.alphas_cumprod
    theirs = reference.tensors("schedule")["alphas_cumprod"]
    yield Check(side.name, "schedule.alphas_cumprod", relative_rms(ours, theirs), 1e-6)
    for steps, timesteps in reference.facts["schedule"]["ddim_timesteps"].items():
        wrong = ddim_timesteps(int(steps)).flip(0).tolist() != timesteps
        yield Check(side.name, f"schedule.ddim_timesteps.{steps}", float(wrong), 0.0, "max_abs")


def check_forward(reference: Reference, side: Side) -> Iterator[Check]:
    """One pass of the network, fresh and tuned."""
    numbers = reference.tensors("forward")
    for case in sorted({key.split(".")[0] for key in numbers}):
        x, timesteps, context = (
            numbers[f"{case}.{k}"] for k in ("sample", "timesteps", "encoder_hidden_states")
        )
        for variant in (FRESH, NEUTRAL, TUNED):
            ours = side.forward(variant, rows(x), timesteps, context, x.shape[2])
            value = relative_rms(ours, rows(numbers[f"{case}.out_{variant}"]))
            yield Check(side.name, f"forward.{case}.{variant}", value, FORWARD)


def check_intermediates(reference: Reference, side: Side) -> Iterator[Check]:
    """Inputs and outputs of named modules on the way."""
    if not reference.has("intermediates"):
        return
    theirs = reference.tensors("intermediates")
    numbers = reference.tensors("forward")
    case = reference.facts.get("intermediates_case", "b2f5")
    x, timesteps, context = (numbers[f"{case}.{k}"] for k in ("sample", "timesteps", "encoder_hidden_states"))
    names = sorted({key.rsplit(".", 1)[0] for key in theirs})
    seen: dict[str, Tensor] = {}
    handles = []
    for name, (takes, gives) in side.modules(TUNED, names).items():
        handles += [
            takes.register_forward_pre_hook(_keep(seen, f"{name}.in")),
            gives.register_forward_hook(_keep(seen, f"{name}.out")),
        ]
    side.forward(TUNED, rows(x), timesteps, context, x.shape[2])
    for handle in handles:
        handle.remove()
    for key, expected in sorted(theirs.items()):
        ours = _official_layout(seen[key], expected, x.shape[2])
        yield Check(side.name, f"intermediates.{key}", relative_rms(ours, expected), FORWARD)


def _keep(seen: dict[str, Tensor], key: str) -> Callable:
    def hook(module: nn.Module, given: tuple, result: Tensor | None = None) -> None:
        tensor = given[0] if key.endswith(".in") else result
        tensor = tensor[0] if isinstance(tensor, tuple) else getattr(tensor, "sample", tensor)
        seen.setdefault(key, tensor.detach().clone())

    return hook


def _official_layout(ours: Tensor, theirs: Tensor, frames: int) -> Tensor:
    if theirs.ndim == 5:
        return ours.unflatten(0, (-1, frames)).transpose(1, 2)
    if ours.ndim == 3 and ours.shape != theirs.shape:  # temporal attention: (b f) n c -> (b n) f c
        return ours.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)
    if ours.ndim == 2:  # the time embedding, which we repeat per frame
        return ours[::frames] if len(ours) != len(theirs) else ours
    return ours


def check_training(reference: Reference, side: Side) -> Iterator[Check]:
    """Ten steps of the optimiser: losses, gradients of the first step, what the weights become."""
    for run in reference.names("train_"):
        yield from _check_run(reference, side, run)


def _check_run(reference: Reference, side: Side, run: str) -> Iterator[Check]:
    numbers = reference.tensors(run)
    facts = reference.facts["train"].get(run.removeprefix("train_"), reference.facts["train"].get(run, {}))
    learned = [key.removeprefix("grad0.") for key in numbers if key.startswith("grad0.")]
    never = [
        key.removeprefix("final.")
        for key in numbers
        if key.startswith("final.") and key.removeprefix("final.") not in learned
    ]
    frozen = tuple(sorted({name.split(".attn")[0] for name in never}))
    steps = len(numbers["loss"])
    settings = TuningSettings.official(
        steps=steps,
        learning_rate=facts.get("lr", 3e-5),
        max_grad_norm=facts.get("max_grad_norm", facts.get("clip", 1.0)),
        gradient_checkpointing="none",
    )
    tuner = side.tuner(
        facts.get("start", FRESH),
        rows(numbers["latents"]),
        numbers["encoder_hidden_states"],
        settings,
        draw=lambda i: (int(numbers["timesteps"][i]), rows(numbers["noise"][i])),
        frozen=frozen,
    )
    note = f"official run never trained {len(never)} tensors; frozen here" if never else ""
    # Nodes run in inference mode and so may the caller; training cannot.
    with torch.inference_mode(False), torch.enable_grad(), tuner:
        start = {name: p.detach().clone() for name, p in tuner.parameters.items()}
        gradients = tuner.gradients(0)
        reports = [tuner.step() for _ in range(steps)]
    values = torch.cat([gradients[name].flatten() for name in learned])
    expected = torch.cat([numbers[f"grad0.{name}"].flatten() for name in learned])
    yield Check(side.name, f"{run}.grad0", relative_rms(values, expected), GRADIENT, note=note)
    losses = torch.tensor([report.loss for report in reports])
    error = float((losses - numbers["loss"]).abs().max())
    yield Check(side.name, f"{run}.loss", error, LOSS, "max_abs", note)
    norms = torch.tensor([report.grad_norm for report in reports])
    yield Check(side.name, f"{run}.grad_norm", relative_rms(norms, numbers["grad_norm"]), 1e-5, note=note)
    ours = torch.cat([(tuner.parameters[name].detach() - start[name]).flatten() for name in learned])
    theirs = torch.cat([(numbers[f"final.{name}"] - start[name]).flatten() for name in learned])
    yield Check(side.name, f"{run}.update", relative_rms(ours, theirs), UPDATE, note=note)


def check_inversion(reference: Reference, side: Side) -> Iterator[Check]:
    """The trajectory of DDIM inversion under the empty prompt."""
    numbers = reference.tensors("inversion")
    latents, empty = rows(numbers["latent"]), numbers["embeddings"][:1]
    velocity = reference.schedule.prediction_type == "v_prediction"
    for run in sorted({key.split(".")[0] for key in numbers if key.startswith("steps")}):
        name, note = f"{run}.trajectory", ""
        if velocity:
            name = f"{run}.trajectory_v_corrected"
            note = "the official inversion takes velocity for noise; compared with the corrected one"
            if name not in numbers:
                continue
        trajectory = side.invert(latents, empty, int(run.removeprefix("steps")))
        kept = numbers[f"{run}.kept_indices"].tolist()
        if len(numbers[name]) == len(trajectory):
            kept = range(len(trajectory))
        for index, expected in zip(kept, numbers[name], strict=True):
            value = relative_rms(trajectory[index], rows(expected))
            yield Check(side.name, f"inversion.{run}.{index}", value, FORWARD, note=note)


def check_sampling(reference: Reference, side: Side) -> Iterator[Check]:
    """DDIM sampling with and without guidance."""
    numbers = reference.tensors("sampling")
    embeddings = numbers["embeddings"]
    for run in sorted({key.split(".final")[0] for key in numbers if key.endswith(".final")}):
        facts = reference.facts["sampling"][run]
        guidance = facts["guidance"]
        uncond = embeddings[:1] if guidance > 1 else None
        prompt = embeddings[facts["prompt_row"]][None]
        steps = len(numbers[f"{run}.timesteps"])
        latents = side.sample(rows(numbers[f"{run}.start"]), prompt, uncond, guidance, steps)
        limit = GUIDED if guidance > 1 else FORWARD
        for index, expected in enumerate(numbers.get(f"{run}.per_step", [])):
            yield Check(
                side.name, f"sampling.{run}.{index}", relative_rms(latents[index], rows(expected)), limit
            )
        yield Check(
            side.name,
            f"sampling.{run}.final",
            relative_rms(latents[-1], rows(numbers[f"{run}.final"])),
            limit,
        )
