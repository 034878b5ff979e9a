"""The training loop that every stage uses: resumable, seeded, with averaged weights."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..say import say


@dataclass(frozen=True)
class Settings:
    """Settings of one stage.

    `lr` falls from its peak to `lr * lr_end` along a cosine; with `lr_end` 1 it stays, so that
    a stage can be made longer at any time.
    """

    steps: int
    batch: int
    lr: float
    lr_end: float = 0.01
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0
    save_every: int = 250
    log_every: int = 50

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (self.lr_end + (1 - self.lr_end) * 0.5 * (1 + math.cos(math.pi * done)))


def device() -> torch.device:
    """Return the device to train on: CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision() -> torch.autocast:
    """Return the autocast context of training: bfloat16 products where the hardware has them."""
    kind = device().type
    # Without instructions for it a CPU computes bfloat16 slower than float32.
    able = kind == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=able)


def fit(
    name: str,
    parameters: dict[str, torch.nn.Parameter],
    loss: Callable[[int], torch.Tensor],
    settings: Settings,
    folder: Path,
    lr_scale: Callable[[str], float] = lambda _: 1.0,
    workers: int = 1,
) -> dict[str, torch.Tensor]:
    """Minimise `loss(step)` and return the averaged weights by parameter name.

    The state is kept in `folder/NAME.state.safetensors`, so that a killed run goes on
    where it was; the log in `folder/NAME.jsonl`. Each step reseeds torch with its number,
    so a resumed run draws what an unbroken one draws. The parameters are left at their
    averaged values.

    With several `workers` (CPU only), as many processes of one thread each take steps in
    turn on shared weights, without waiting for each other. That suits a machine whose
    cores are also used by others; its results differ slightly from run to run.
    """
    run = _Run(name, parameters, loss, settings, folder, lr_scale)
    children = [
        torch.multiprocessing.get_context("fork").Process(target=run.work, daemon=True)
        for _ in range(workers - 1)
    ]
    if children:
        torch.set_num_threads(1)
        run.share()
    for child in children:
        child.start()
    run.work(first=True)
    for child in children:
        child.join()
    run.save()
    with torch.no_grad():
        for key, value in parameters.items():
            value.copy_(run.average[key])
    return run.average


def averaged_weights(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Return the averaged weights of a stage's latest saved state, finished or not."""
    with safe_open(folder / f"{name}.state.safetensors", "pt") as file:
        keys = [key for key in file.keys() if key.startswith("average.")]
        return {key.removeprefix("average."): file.get_tensor(key) for key in keys}


def write_log(stages: dict[str, Settings], folder: Path, path: Path) -> None:
    """Write the settings and the thinned logs of the stages as JSON.

    Stages that left no log in the folder stay as an earlier file at `path` has them.
    """
    report = json.loads(path.read_text()) if path.exists() else {}
    for name, settings in stages.items():
        source = folder / f"{name}.jsonl"
        if not source.exists():
            continue
        entries = [json.loads(line) for line in source.read_text().splitlines()]
        stride = max(1, len(entries) // 40)
        report[name] = {
            "settings": asdict(settings),
            "log": entries[::-1][::stride][::-1],
        }
    report.pop("torch", None)  # it stays the last entry
    report["torch"] = torch.__version__
    path.write_text(json.dumps(report, indent=1) + "\n")


class _Run:
    """The state of one stage in training, and the work on it."""

    def __init__(
        self,
        name: str,
        parameters: dict[str, torch.nn.Parameter],
        loss: Callable[[int], torch.Tensor],
        settings: Settings,
        folder: Path,
        lr_scale: Callable[[str], float],
    ) -> None:
        self.name, self.loss, self.settings = name, loss, settings
        self.parameters = parameters
        self.average = {key: value.detach().clone() for key, value in parameters.items()}
        self.state_path = folder / f"{name}.state.safetensors"
        self.log_path = folder / f"{name}.jsonl"
        groups: dict[float, list[torch.nn.Parameter]] = {}
        for key, value in parameters.items():
            groups.setdefault(lr_scale(key), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [{"params": values, "scale": scale} for scale, values in groups.items()],
            lr=settings.lr,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step = torch.multiprocessing.get_context("fork").Value("i", 0)
        self.update = torch.multiprocessing.get_context("fork").Lock()
        self._restore()

    def share(self) -> None:
        """Move everything that the workers change to shared memory."""
        for key, value in self.parameters.items():
            value.data.share_memory_()
            self.average[key].share_memory_()
            for moment in self.optimizer.state[value].values():
                moment.share_memory_()

    def work(self, first: bool = False) -> None:
        """Take steps until all are taken; the first worker writes the log and the state."""
        parent = None if first else os.getppid()
        losses: list[float] = []
        began, logged, saved = time.monotonic(), self.step.value, self.step.value
        # A child whose parent was killed must not train on alone.
        while first or os.getppid() == parent:
            step = self._take()
            if step is None:
                break
            torch.manual_seed(self.settings.seed * 1_000_003 + step)
            value = self.loss(step)
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip)
            with self.update:
                self._apply(step)
            losses.append(value.item())
            if not first:
                continue
            step += 1
            if step - logged >= self.settings.log_every or step == self.settings.steps:
                self._log(step, losses, (time.monotonic() - began) / (step - logged))
                losses, began, logged = [], time.monotonic(), step
            if step - saved >= self.settings.save_every:
                self.save()
                saved = step

    def save(self) -> None:
        """Write the state to disk, replacing the former one at once."""
        tensors = {}
        with self.update:
            for key, value in self.parameters.items():
                moments = self.optimizer.state[value]
                tensors[f"value.{key}"] = value.detach().clone()
                tensors[f"average.{key}"] = self.average[key].clone()
                tensors[f"mean.{key}"] = moments["exp_avg"].clone()
                tensors[f"square.{key}"] = moments["exp_avg_sq"].clone()
            step = self.step.value
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        temporary = self.state_path.with_suffix(".part")
        save_file(tensors, temporary, {"step": str(step)})
        os.replace(temporary, self.state_path)

    def _take(self) -> int | None:
        with self.step.get_lock():
            if self.step.value >= self.settings.steps:
                return None
            self.step.value += 1
            return self.step.value - 1

    def _apply(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr_at(step) * group["scale"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.settings.ema, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def _log(self, step: int, losses: list[float], seconds: float) -> None:
        entry = {
            "step": step,
            "loss": round(sum(losses) / len(losses), 6),
            "lr": round(self.settings.lr_at(step - 1), 8),
            "seconds_per_step": round(seconds, 4),
        }
        with self.log_path.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        say(f"{self.name} {json.dumps(entry)}")

    def _restore(self) -> None:
        """Load the saved state, where there is one, else start the moments at zero."""
        for value in self.parameters.values():
            self.optimizer.state[value] = {
                "step": torch.tensor(0.0, device=value.device),
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.zeros_like(value),
            }
        if not self.state_path.exists():
            return
        with safe_open(self.state_path, "pt") as file, torch.no_grad():
            self.step.value = int(file.metadata()["step"])
            for key, value in self.parameters.items():
                moments = self.optimizer.state[value]
                value.copy_(file.get_tensor(f"value.{key}"))
                self.average[key].copy_(file.get_tensor(f"average.{key}"))
                moments["step"].fill_(self.step.value)
                moments["exp_avg"].copy_(file.get_tensor(f"mean.{key}"))
                moments["exp_avg_sq"].copy_(file.get_tensor(f"square.{key}"))
