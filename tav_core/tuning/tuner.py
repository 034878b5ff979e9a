"""One-shot tuning on one clip (Tune-A-Video, section 3.3; hyper-parameters of the official configs)."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..inflation.attach import attach
from ..inflation.host import Host
from ..inflation.mode import InflationMode
from ..inflation.temporal import TemporalLayers
from ..patching import Overrides
from .checkpointing import attach_checkpointing
from .lr_scheduler import lr_factor
from .queries import TunableQueries, query_projections
from .settings import TuningSettings
from .timesteps import low_discrepancy_timestep

Draw = Callable[[int], tuple[int, Tensor]]


@dataclass(frozen=True)
class TuningStep:
    """Report of one optimiser step: its number (from 1), loss, gradient norm before clipping and rate used.

    skipped: in fp16, the gradients overflowed, so that nothing was learned; the scaler has lowered its scale.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    skipped: bool = False


# The scaler halves its scale at each skip: from 65536 this many take it below a millionth.
MOST_SKIPS = 40


class NonFiniteLossError(ArithmeticError):
    """The loss stopped being a number; tuning on would only spread it."""


class Tuner:
    """A tuning run on ``host``: attaches the inflated layers, learns step by step, detaches.

    ``latents`` (frames, channels, height, width) are the clip's clean latents in the network's scale, ``context``
    (1, tokens, width) the embedded prompt, or one per frame. ``draw(i)`` gives timestep and noise (shaped as the
    frames of one step) of the i-th draw; without it they are uniform and normal from the seed, the same on every
    device. ``frozen`` names blocks whose layers do not learn. ``temporal`` continues from given layers instead of
    fresh ones.

    Use as a context manager; leaving it detaches everything from the host's UNet.
    """

    def __init__(
        self,
        host: Host,
        latents: Tensor,
        context: Tensor,
        settings: TuningSettings,
        mode: InflationMode = InflationMode(),
        draw: Draw | None = None,
        temporal: TemporalLayers | None = None,
        frozen: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.settings = settings
        self.mode = mode
        self.latents = latents.detach().to(host.device, torch.float32)
        self.context = context.detach().to(host.device, torch.float32)
        self.frames_per_step = min(settings.frames_per_step or len(latents), len(latents))
        self.step_count = 0
        self.losses: list[float] = []
        self._skips = 0
        self._draw = draw or self._seeded_draw
        self._overrides = Overrides()

        blocks = host.transformer_blocks()
        self.queries: TunableQueries | None = None
        if temporal is None:
            # Fresh layers that do not learn would do nothing, at a cost.
            learns = settings.trainable != "queries"
            sizes = {n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in blocks.items() if learns}
            temporal = TemporalLayers(sizes, device=host.device)
            temporal.reset(settings.seed)
        else:
            temporal = temporal.to(host.device)
        self.temporal = temporal
        learning = {name: block for name, block in blocks.items() if name not in frozen}
        if settings.trainable != "temporal":
            projections = query_projections(learning)
            self.queries = TunableQueries(projections, settings.query_rank, settings.seed)
        self.parameters = self._trainable_parameters(learning)
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            # Elsewhere torch's default is as fast.
            fused=host.device.type == "cpu",
        )
        self._scaler = torch.amp.GradScaler(host.device.type, enabled=host.dtype == torch.float16)

    def __enter__(self) -> "Tuner":
        try:
            self._attach()
        except BaseException:
            self._overrides.detach()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._overrides.detach()

    def step(self) -> TuningStep:
        """One optimiser step. Raises NonFiniteLossError with the step's number; the weights are then unchanged."""
        settings = self.settings
        rate = settings.learning_rate * lr_factor(
            settings.lr_scheduler, self.step_count, settings.steps, settings.lr_warmup_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        # A step that was interrupted halfway leaves gradients behind.
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for i in range(settings.gradient_accumulation_steps):
            loss += self._accumulate(self.step_count * settings.gradient_accumulation_steps + i)
        self._scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm)
        if not self._scaler.is_enabled() and not bool(grad_norm.isfinite()):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(
                f"the gradient is no longer finite at step {self.step_count + 1}; lower the learning rate"
            )
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        norm = float(grad_norm)
        self._skips = 0 if math.isfinite(norm) else self._skips + 1
        if self._skips > MOST_SKIPS:
            raise NonFiniteLossError(
                f"the fp16 gradients overflowed {MOST_SKIPS} times in a row until step {self.step_count + 1}; "
                "use a bf16 or fp32 model"
            )
        self.step_count += 1
        self.losses.append(loss)
        return TuningStep(self.step_count, loss, norm, rate, skipped=self._skips > 0)

    def gradients(self, index: int) -> dict[str, Tensor]:
        """The gradients of the ``index``-th draw by parameter name, before clipping; nothing is learned."""
        self._accumulate(index)
        scale = self._scaler.get_scale()
        gradients = {name: p.grad / scale for name, p in self.parameters.items() if p.grad is not None}
        self.optimizer.zero_grad(set_to_none=True)
        return gradients

    def tensors(self) -> dict[str, Tensor]:
        """What was learned so far, by the names of the tuned-weights file, float32 on the CPU."""
        queries = {} if self.queries is None else self.queries.tensors()
        return queries | self.temporal.tensors()

    def state(self) -> dict[str, Tensor]:
        """Everything a stopped run needs to go on exactly, as copies on the CPU; see `restore`."""
        state = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        if self._scaler.is_enabled():
            saved = self._scaler.state_dict()
            state["scaler"] = torch.tensor([saved["scale"], saved["_growth_tracker"]], dtype=torch.float64)
        for name, parameter in self.parameters.items():
            state[f"parameter.{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{key}.{name}"] = value
        return {name: tensor.cpu().clone() for name, tensor in state.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken, in a tuner made with the same arguments.

        Raises ValueError, and changes nothing, if the state was taken from another tuner.
        """
        self._check_state(state)
        for name, parameter in self.parameters.items():
            parameter.copy_(state[f"parameter.{name}"])
            self.optimizer.state.pop(parameter, None)
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"optimizer.{key}.{name}" in state:
                    # AdamW keeps its step count on the CPU.
                    device = "cpu" if key == "step" else parameter.device
                    kept = self.optimizer.state[parameter]
                    kept[key] = state[f"optimizer.{key}.{name}"].to(device, copy=True)
        if self._scaler.is_enabled():
            scale, tracker = state["scaler"].tolist()
            self._scaler.load_state_dict(
                self._scaler.state_dict() | {"scale": scale, "_growth_tracker": int(tracker)}
            )
        self.losses = state["losses"].tolist()
        self.step_count = len(self.losses)

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        needed = {"losses"} | ({"scaler"} if self._scaler.is_enabled() else set())
        for name, parameter in self.parameters.items():
            needed.add(f"parameter.{name}")
            # AdamW has none of a parameter that had no gradient yet, else all three.
            moments = {f"optimizer.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            needed |= moments if moments & state.keys() else set()
            for key in (f"parameter.{name}", *moments - {f"optimizer.step.{name}"}):
                if key in state and state[key].shape != parameter.shape:
                    raise ValueError(f"its {key} has the shape {list(state[key].shape)}")
        if needed - state.keys():
            raise ValueError(f"it lacks {min(needed - state.keys())}")

    def _attach(self) -> None:
        layers = {name: self.temporal[name] for name in self.temporal.names}
        attach(self._overrides, self.host, self.mode, layers, frames=self.frames_per_step)
        if self.queries is not None:
            self.queries.attach(self._overrides)
        units: list[nn.Module] = []
        if self.settings.gradient_checkpointing in ("attention", "all"):
            units += self.host.transformer_blocks().values()
        if self.settings.gradient_checkpointing == "all":
            units += self.host.residual_blocks()
        attach_checkpointing(self._overrides, units)

    def _accumulate(self, index: int) -> float:
        timestep, noise = self._draw(index)
        latents, context = self._window(index)
        noise = noise.to(latents)
        schedule = self.host.schedule
        noisy = schedule.add_noise(latents, noise, timestep)
        prediction = self.host.predict(noisy, timestep, context)
        loss = nn.functional.mse_loss(prediction, schedule.target(latents, noise, timestep))
        if self.settings.min_snr_gamma > 0:
            loss = loss * min_snr_weight(
                schedule.snr(timestep), self.settings.min_snr_gamma, schedule.prediction_type
            )
        loss = loss / self.settings.gradient_accumulation_steps
        value = float(loss.detach())
        if not math.isfinite(value):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(
                f"the loss became {value} at step {self.step_count + 1} (timestep {timestep}); "
                "lower the learning rate or use a bf16 or fp32 model"
            )
        self._scaler.scale(loss).backward()
        return value

    def _seeded_draw(self, index: int) -> tuple[int, Tensor]:
        # A draw depends on its index alone: a run that was stopped in the middle of a step goes on as if it had not.
        generator = _generator(f"{self.settings.seed}:{index}")
        total = self.host.schedule.timesteps
        timestep = int(torch.randint(total, (), generator=generator))
        if self.settings.timesteps == "low-discrepancy":
            offset = float(torch.rand((), generator=_generator(f"{self.settings.seed}:timesteps")))
            timestep = low_discrepancy_timestep(index, offset, total)
        return timestep, torch.randn((self.frames_per_step, *self.latents.shape[1:]), generator=generator)

    def _window(self, index: int) -> tuple[Tensor, Tensor]:
        # The frames of a draw, and their embeddings. Drawn apart from the noise, for the same reason as above.
        choices = len(self.latents) - self.frames_per_step + 1
        start = 0
        if choices > 1:
            generator = _generator(f"{self.settings.seed}:{index}:window")
            start = int(torch.randint(choices, (), generator=generator))
        frames = slice(start, start + self.frames_per_step)
        return self.latents[frames], self.context if len(self.context) == 1 else self.context[frames]

    def _trainable_parameters(self, learning: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
        parameters = {} if self.queries is None else dict(self.queries.parameters)
        self.temporal.requires_grad_(False)
        if self.settings.trainable != "queries":
            for name, parameter in self.temporal.named_parameters():
                block, _, layer = name.partition(".attn_temp.")
                if layer and block in learning:
                    parameter.requires_grad_()
                    parameters[name] = parameter
        return parameters

    def _parameter_groups(self) -> list[dict[str, Any]]:
        temporal = {name for name in self.parameters if ".attn_temp." in name}
        groups = [
            {
                "params": [p for name, p in self.parameters.items() if (name in temporal) == of_temporal],
                "factor": factor,
            }
            for of_temporal, factor in ((False, 1.0), (True, self.settings.temporal_lr_scale))
        ]
        return [group for group in groups if group["params"]]


def _generator(name: str) -> torch.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def min_snr_weight(snr: float, gamma: float, prediction_type: str) -> float:
    """Loss weight of arXiv 2303.09556: min(SNR, gamma) / SNR for noise, / (SNR + 1) for velocity prediction."""
    return min(snr, gamma) / (snr if prediction_type == "epsilon" else snr + 1.0)
