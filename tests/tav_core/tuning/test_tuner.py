"""The tuning loop on a tiny network."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.files.weights import query_deltas
from tav_core.inflation.attach import attach
from tav_core.inflation.mode import InflationMode
from tav_core.inflation.temporal import TemporalLayers
from tav_core.patching import Overrides
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning import tuner as tuning
from tav_core.tuning.settings import CHECKPOINTING_MODES, TuningSettings
from tav_core.tuning.tuner import NonFiniteLossError, Tuner, min_snr_weight

PLAIN = InflationMode("off", "per frame")
FAST = {"learning_rate": 1e-3, "gradient_checkpointing": "none"}
MID = "mid_block.attentions.0.transformer_blocks.0"


def draw_of(*timesteps):
    """Draws with these timesteps, in a circle, and noise of their own."""

    def draw(index):
        noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(100 + index))
        return timesteps[index % len(timesteps)], noise

    return draw


def tune(host, clip, context, steps=2, mode=InflationMode(), draw=None, temporal=None, frozen=(), **settings):
    """A tuner after ``steps`` steps, detached, its step reports and the gradients of each step as applied."""
    settings = TuningSettings(**{"steps": steps, **FAST, **settings})
    applied = []
    with Tuner(host, clip, context, settings, mode, draw, temporal, frozen) as tuner:
        tuner.optimizer.register_step_pre_hook(
            lambda *_: applied.append({name: p.grad.clone() for name, p in tuner.parameters.items()})
        )
        reports = [tuner.step() for _ in range(steps)]
    return tuner, reports, applied


def values(tuner):
    return {name: p.detach().clone() for name, p in tuner.parameters.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state(host):
    return {name: tensor.clone() for name, tensor in host.unet.state_dict().items()}


def norm_of(gradients):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def tuned_temporal(host, seed=0):
    sizes = {n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in host.transformer_blocks().items()}
    layers = TemporalLayers(sizes)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return layers


# Repeatability and checkpointing


def test_seeded_runs_repeat_bit_for_bit_and_seeds_differ(unet, clip, context):
    def run(seed):
        host = DiffusersHost(copy.deepcopy(unet), NoiseSchedule.scaled_linear())
        tuner, reports, _ = tune(host, clip, context, 3, seed=seed)
        torch.rand(7)  # the global generator has no say
        return tuner.tensors(), [report.loss for report in reports]

    with torch.random.fork_rng(devices=[]):
        first, second, other = run(1), run(1), run(2)
    assert equal(first[0], second[0])
    assert first[1] == second[1]
    assert first[1] != other[1]


@pytest.mark.parametrize("rank", [0, 2])
def test_checkpointing_changes_no_bit_of_gradients_or_weights(host, clip, context, rank):
    results = []
    for checkpointing in CHECKPOINTING_MODES:
        layers = tuned_temporal(host)
        tuner, reports, applied = tune(
            host, clip, context, 2, temporal=layers, gradient_checkpointing=checkpointing, query_rank=rank
        )
        results.append((values(tuner), reports, applied))
    for weights, reports, applied in results[1:]:
        assert equal(weights, results[0][0])
        assert reports == results[0][1]
        assert all(equal(a, b) for a, b in zip(applied, results[0][2], strict=True))


def test_every_block_learns_with_checkpointing(host, clip, context):
    """The official code loses the gradients of all down blocks here."""
    _, _, applied = tune(host, clip, context, 1, temporal=tuned_temporal(host), gradient_checkpointing="all")
    assert all(gradient.abs().max() > 0 for gradient in applied[0].values())
    assert any(name.startswith("down_blocks") for name in applied[0])


def test_checkpointing_runs_blocks_again_and_none_does_not(host, clip, context):
    runs = {}
    for checkpointing in CHECKPOINTING_MODES:
        count = []
        residual = host.unet.mid_block.resnets[0].conv1
        watched = {"attention": host.unet.get_submodule(MID).norm1, "residual": residual}
        hooks = [
            layer.register_forward_hook(lambda *_, c=count, n=name: c.append(n))
            for name, layer in watched.items()
        ]
        tune(host, clip, context, 1, gradient_checkpointing=checkpointing)
        runs[checkpointing] = (count.count("attention"), count.count("residual"))
        for hook in hooks:
            hook.remove()
    assert runs == {"none": (1, 1), "attention": (2, 1), "all": (2, 2)}


@pytest.mark.parametrize("checkpointing", CHECKPOINTING_MODES)
def test_nothing_below_the_first_trainable_layer_takes_part_in_the_backward_pass(
    host, clip, context, checkpointing
):
    graphs = {}
    for name in ("conv_in", "down_blocks.0.resnets.0", "down_blocks.0.attentions.0"):

        def note(module, args, y, name=name):
            graphs[name] = y[0].requires_grad  # of a tensor a row, of an attention's tuple the tensor

        host.unet.get_submodule(name).register_forward_hook(note)
    tune(host, clip, context, 1, gradient_checkpointing=checkpointing)
    assert graphs == {
        "conv_in": False,
        "down_blocks.0.resnets.0": False,
        "down_blocks.0.attentions.0": True,
    }


# What learns


TRAINED = {
    "queries + temporal": ("attn1.to_q", "attn2.to_q", "attn_temp"),
    "temporal": ("attn_temp",),
    "queries": ("attn1.to_q", "attn2.to_q"),
}


@pytest.mark.parametrize("trainable", TRAINED)
@pytest.mark.parametrize("rank", [0, 2])
def test_only_the_trainable_set_changes(host, clip, context, trainable, rank):
    before, layers = state(host), tuned_temporal(host)
    start = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    tuner, _, _ = tune(host, clip, context, 2, temporal=layers, trainable=trainable, query_rank=rank)
    assert equal(state(host), before)  # the network's own weights
    parts = {part for name in tuner.parameters for part in TRAINED["queries + temporal"] if part in name}
    assert parts == set(TRAINED[trainable])
    for name, tensor in layers.state_dict().items():
        learned = "attn_temp" in name and trainable != "queries"
        assert torch.equal(tensor, start[name]) != learned, name
    deltas = query_deltas(tuner.tensors())
    assert len(deltas) == (0 if trainable == "temporal" else 2 * len(layers.names))
    assert all(delta.abs().max() > 0 for delta in deltas.values())
    saved = {part for name in tuner.tensors() for part in TRAINED["queries + temporal"] if part in name}
    assert saved == {*TRAINED[trainable], "attn_temp"}, "given layers act, learned or not, so they are saved"
    assert any("lora" in name for name in tuner.parameters) == (rank > 0 and trainable != "temporal")


def test_queries_alone_need_no_temporal_layers(host, clip, context):
    tuner, _, _ = tune(host, clip, context, 1, trainable="queries")
    assert tuner.temporal.names == ()
    assert all(".to_q." in name and "attn_temp" not in name for name in tuner.tensors())


def test_a_restored_run_goes_on_bit_for_bit(host, clip, context):
    settings = TuningSettings(steps=6, learning_rate=1e-3, gradient_checkpointing="none", seed=3)
    with Tuner(host, clip, context, settings) as whole:
        for _ in range(6):
            whole.step()
    with Tuner(host, clip, context, settings) as stopped:
        for _ in range(2):
            stopped.step()
        state_after_two = stopped.state()
        stopped.step()  # what comes after the state was taken does not count
    with Tuner(host, clip, context, settings) as resumed:
        resumed.restore(state_after_two)
        assert resumed.step_count == 2
        for _ in range(4):
            resumed.step()
    assert resumed.losses == whole.losses
    assert equal(resumed.tensors(), whole.tensors())


def test_frozen_blocks_do_not_learn(host, clip, context):
    layers = tuned_temporal(host)
    start = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    tuner, _, _ = tune(host, clip, context, 1, temporal=layers, frozen=(MID,))
    assert not any(name.startswith(MID) for name in tuner.parameters)
    for name, tensor in layers.state_dict().items():
        learned = "attn_temp" in name and not name.startswith(MID)
        assert torch.equal(tensor, start[name]) != learned, name


def test_leaving_takes_everything_off_the_network(host, clip, context):
    dicts = {name: dict(module.__dict__) for name, module in host.unet.named_modules()}
    weights = state(host)
    with pytest.raises(KeyboardInterrupt), Tuner(host, clip, context, TuningSettings(steps=2)) as tuner:
        tuner.step()
        raise KeyboardInterrupt
    assert {name: dict(module.__dict__) for name, module in host.unet.named_modules()} == dicts
    assert equal(state(host), weights)
    assert all(p.grad is None for p in host.unet.parameters())


def test_failing_to_enter_takes_everything_off_again(host, clip, context):
    dicts = {name: dict(module.__dict__) for name, module in host.unet.named_modules()}
    strangers = TemporalLayers({"no.such.block": (32, 4)})
    tuner = Tuner(host, clip, context, TuningSettings(), temporal=strangers)
    with pytest.raises(KeyError):
        tuner.__enter__()
    assert {name: dict(module.__dict__) for name, module in host.unet.named_modules()} == dicts


def test_what_was_learned_gives_the_same_network_when_applied(host, clip, context):
    """Differences and temporal layers of the result, put on a copy, answer as the network being tuned did."""
    settings = TuningSettings(steps=2, **FAST)
    with Tuner(host, clip, context, settings) as tuner:
        for _ in range(2):
            tuner.step()
        with torch.no_grad():
            expected = host.predict(clip, 300, context)
    plain = DiffusersHost(copy.deepcopy(host.unet), host.schedule)
    tensors = tuner.tensors()
    for name, delta in query_deltas(tensors).items():
        plain.unet.get_submodule(name).weight += delta
    layers = tuned_temporal(plain)
    layers.load(tensors)
    with Overrides() as overrides, torch.no_grad():
        attach(overrides, plain, InflationMode(), {name: layers[name] for name in layers.names}, 3)
        y = plain.predict(clip, 300, context)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    assert (y - expected).abs().max() < (y - host.predict(clip, 300, context)).abs().max()


# Loss and target


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_the_first_loss_by_hand(unet, clip, context, prediction, gamma):
    """A fresh network in plain modes is the image model: the loss is known without the tuner."""
    host = DiffusersHost(unet, NoiseSchedule.scaled_linear(prediction_type=prediction))
    timestep, noise = draw_of(100)(0)
    a = host.schedule.alphas_cumprod[timestep]
    noisy = a.sqrt() * clip + (1 - a).sqrt() * noise
    target = noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * clip
    with torch.no_grad():
        loss = functional.mse_loss(unet(noisy, timestep, context.expand(3, -1, -1)).sample, target)
    snr = a / (1 - a)
    if gamma:
        assert snr > gamma
        loss *= gamma / (snr if prediction == "epsilon" else snr + 1)
    _, reports, _ = tune(host, clip, context, 1, PLAIN, draw_of(100), min_snr_gamma=gamma)
    assert reports[0].loss == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    ("snr", "prediction", "weight"),
    [
        (20.0, "epsilon", 0.25),
        (2.0, "epsilon", 1.0),
        (20.0, "v_prediction", 5 / 21),
        (2.0, "v_prediction", 2 / 3),
        (0.0, "v_prediction", 0.0),
    ],
)
def test_min_snr_weights(snr, prediction, weight):
    assert min_snr_weight(snr, 5.0, prediction) == pytest.approx(weight)


def test_timesteps_are_uniform_over_the_whole_schedule(host, clip, context):
    seen = []

    def predict(x, timestep, context):
        seen.append(timestep)
        return x * next(iter(tuner.parameters.values())).sum()

    tuner = Tuner(host, clip[:1, :, :1, :1], context, TuningSettings(learning_rate=1e-7))
    host.predict = predict
    for _ in range(400):
        tuner.step()
    assert 0 <= min(seen) < 20
    assert 980 <= max(seen) < 1000
    assert abs(sum(seen) / len(seen) - 499.5) < 60
    assert all(isinstance(t, int) for t in seen)


def test_the_loss_goes_down_on_one_clip(host, clip, context):
    tuner, _, _ = tune(host, clip, context, 30, draw=lambda _: draw_of(400)(0), learning_rate=2e-3)
    assert tuner.losses[-1] < 0.8 * tuner.losses[0]
    assert sum(tuner.losses[20:]) < sum(tuner.losses[10:20]) < sum(tuner.losses[:10])
    assert len(tuner.losses) == 30


# Long clips


def test_frames_per_step_learns_from_consecutive_frames_anywhere_in_the_clip(host, context):
    """The mean of each frame is its number, so that a noisy clip without noise tells its frames."""
    clip = torch.arange(7.0).reshape(7, 1, 1, 1).expand(7, 4, 1, 1)
    starts = []

    def predict(x, timestep, context):
        numbers = (x[:, 0, 0, 0] / host.schedule.alphas_cumprod[timestep].sqrt()).tolist()
        assert numbers == pytest.approx([numbers[0] + i for i in range(3)], abs=1e-4)
        starts.append(round(numbers[0]))
        return x * next(iter(tuner.parameters.values())).sum()

    tuner = Tuner(
        host,
        clip,
        context,
        TuningSettings(learning_rate=1e-7, frames_per_step=3),
        draw=lambda index: (100, torch.zeros(3, 4, 1, 1)),
    )
    host.predict = predict
    for _ in range(100):
        tuner.step()
    assert set(starts) == set(range(5))  # every place, the clip's ends included
    assert max(starts.count(start) for start in set(starts)) < 40


def test_windows_of_a_restored_run_go_on_bit_for_bit(host, context):
    clip = torch.randn(7, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    settings = TuningSettings(steps=6, learning_rate=1e-3, gradient_checkpointing="none", frames_per_step=3)
    with Tuner(host, clip, context, settings) as whole:
        for step in range(6):
            if step == 3:
                state = whole.state()
            whole.step()
    with Tuner(host, clip, context, settings) as resumed:
        resumed.restore(state)
        for _ in range(3):
            resumed.step()
    assert resumed.losses == whole.losses
    assert equal(values(resumed), values(whole))


def test_a_window_is_a_clip_of_its_own(host, context):
    """Temporal layers, sparse-causal attention and norms know nothing of the frames around it."""
    clip = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    drawn = draw_of(300)
    embeddings = torch.randn(5, 5, 16, generator=torch.Generator().manual_seed(6))
    with Tuner(host, clip, embeddings, TuningSettings(frames_per_step=3, **FAST), draw=drawn) as tuner:
        seen, own = tuner._window(0)
        losses = [tuner.step().loss]
    start = next(i for i in range(3) if torch.equal(clip[i : i + 3], seen))
    assert torch.equal(own, embeddings[start : start + 3])
    with Tuner(host, seen, own, TuningSettings(**FAST), draw=drawn) as tuner:
        losses.append(tuner.step().loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("frames", [0, 3, 8])
def test_windows_of_the_whole_clip_change_nothing(host, clip, context, frames):
    expected, _, _ = tune(host, clip, context, 2, temporal=tuned_temporal(host))
    tuner, _, _ = tune(host, clip, context, 2, temporal=tuned_temporal(host), frames_per_step=frames)
    assert tuner.losses == expected.losses
    assert equal(values(tuner), values(expected))


@pytest.mark.parametrize("frames", [-1, 1])
def test_a_window_has_at_least_two_frames(frames):
    with pytest.raises(ValueError, match="frames_per_step must be"):
        TuningSettings(frames_per_step=frames)


# The optimiser


def test_steps_are_adamw_with_decay_on_everything_after_clipping(host, clip, context):
    layers = tuned_temporal(host)
    settings = {"learning_rate": 1e-2, "temporal_lr_scale": 5.0, "weight_decay": 0.1, "max_grad_norm": 0.01}
    settings["betas"] = (0.8, 0.95)
    start = values(Tuner(host, clip, context, TuningSettings(**settings), temporal=copy.deepcopy(layers)))
    tuner, reports, applied = tune(host, clip, context, 3, temporal=layers, **settings)
    for name, weight in start.items():
        rate = 5e-2 if ".attn_temp." in name else 1e-2
        weight, mean, square = weight.double(), 0.0, 0.0
        for i, gradients in enumerate(applied, 1):
            gradient = gradients[name].double()
            mean, square = 0.8 * mean + 0.2 * gradient, 0.95 * square + 0.05 * gradient**2
            step = mean / (1 - 0.8**i) / ((square / (1 - 0.95**i)).sqrt() + 1e-8)
            weight = weight * (1 - rate * 0.1) - rate * step
        torch.testing.assert_close(values(tuner)[name].double(), weight, rtol=1e-4, atol=1e-6)
    for report, gradients in zip(reports, applied, strict=True):
        assert report.grad_norm > 0.01
        assert norm_of(gradients) == pytest.approx(0.01, rel=1e-3)


def test_reported_gradient_norm_is_that_before_clipping(host, clip, context):
    _, reports, applied = tune(host, clip, context, 1, draw=draw_of(300), max_grad_norm=1000.0)
    assert reports[0].grad_norm == pytest.approx(norm_of(applied[0]), rel=1e-5)
    _, clipped, _ = tune(host, clip, context, 1, draw=draw_of(300), max_grad_norm=1e-3)
    assert clipped[0].grad_norm == reports[0].grad_norm


def test_accumulation_averages_the_gradients_of_consecutive_draws(host, clip, context):
    large = {"max_grad_norm": 1000.0, "draw": draw_of(10, 300, 600, 900)}
    _, reports, applied = tune(host, clip, context, 1, gradient_accumulation_steps=2, **large)
    shifted = large | {"draw": lambda i: draw_of(10, 300, 600, 900)(i + 1)}
    runs = [tune(host, clip, context, 1, **settings) for settings in (large, shifted)]
    assert reports[0].loss == pytest.approx(sum(r[1][0].loss for r in runs) / 2, rel=1e-6)
    for name, gradient in applied[0].items():
        expected = (runs[0][2][0][name] + runs[1][2][0][name]) / 2
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_every_draw_is_used_once_and_in_order(host, clip, context):
    asked = []

    def draw(index):
        asked.append(index)
        return draw_of(500)(index)

    tuner, reports, _ = tune(host, clip, context, 2, draw=draw, gradient_accumulation_steps=3)
    assert asked == list(range(6))
    assert [report.step for report in reports] == [1, 2]
    assert tuner.step_count == 2


def test_learning_rates_follow_the_schedule_and_decide_the_step_size(host, clip, context):
    settings = {
        "lr_scheduler": "linear",
        "lr_warmup_steps": 1,
        "steps": 4,
        "learning_rate": 1e-2,
        "temporal_lr_scale": 1,
    }
    settings["weight_decay"] = 0
    before = values(Tuner(host, clip, context, TuningSettings(**FAST)))
    with Tuner(host, clip, context, TuningSettings(**{**FAST, **settings})) as tuner:
        first = tuner.step()
        name = f"{MID}.attn_temp.to_out.0.weight"
        moved = (tuner.parameters[name].detach() - before[name]).abs().max()
        rates = [first.learning_rate] + [tuner.step().learning_rate for _ in range(3)]
    assert rates == pytest.approx([5e-3, 1e-2, 1e-2 * 2 / 3, 1e-2 / 3])
    assert float(moved) == pytest.approx(5e-3, rel=1e-3)  # Adam's first step is the rate itself


def test_gradients_of_a_draw_are_those_of_its_step_and_change_nothing(host, clip, context):
    settings = TuningSettings(**FAST, max_grad_norm=1000.0)
    with Tuner(host, clip, context, settings, draw=draw_of(200)) as tuner:
        before = values(tuner)
        gradients = tuner.gradients(0)
        assert equal(values(tuner), before)
        assert tuner.step_count == 0
    _, _, applied = tune(host, clip, context, 1, draw=draw_of(200), max_grad_norm=1000.0)
    assert equal(gradients, applied[0])


def test_the_official_settings_are_the_official_code_s():
    """configs/*.yaml and train_tuneavideo.py of the official repository."""
    official = TuningSettings.official(seed=3)
    assert (official.steps, official.learning_rate, official.weight_decay) == (500, 3e-5, 1e-2)
    assert (official.betas, official.max_grad_norm, official.lr_scheduler) == ((0.9, 0.999), 1.0, "constant")
    assert (official.timesteps, official.temporal_lr_scale, official.seed) == ("random", 1.0, 3)


# When numbers stop being numbers


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_latents_that_are_no_numbers_are_refused_at_the_first_step(host, clip, context, value):
    damaged = clip.clone()
    damaged[1, 2, 3, 4] = value
    tuner = Tuner(host, damaged, context, TuningSettings())
    before = values(tuner)
    with pytest.raises(NonFiniteLossError, match="at step 1 "), tuner:
        tuner.step()
    assert equal(values(tuner), before)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_breaks_later_names_its_step_and_keeps_the_weights(host, clip, context, accumulation):
    def draw(index):
        timestep, noise = draw_of(500)(index)
        return timestep, noise * (math.nan if index == 2 * accumulation + accumulation - 1 else 1.0)

    settings = TuningSettings(**FAST, gradient_accumulation_steps=accumulation)
    with Tuner(host, clip, context, settings, draw=draw) as tuner:
        tuner.step()
        tuner.step()
        before = values(tuner)
        with pytest.raises(NonFiniteLossError, match="at step 3 "):
            tuner.step()
        assert equal(values(tuner), before)
        assert all(p.grad is None for p in tuner.parameters.values())
        assert tuner.step_count == len(tuner.losses) == 2


def test_a_gradient_that_is_no_number_leaves_the_weights_alone(host, clip, context):
    with Tuner(host, clip, context, TuningSettings(**FAST)) as tuner:
        before = values(tuner)
        tuner.parameters[f"{MID}.attn_temp.to_out.0.bias"].register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(NonFiniteLossError, match=r"gradient.* at step 1;"):
            tuner.step()
        assert equal(values(tuner), before)


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rank", [0, 2])
def test_half_precision_networks_learn_in_float32(unet, pristine, clip, context, dtype, rank):
    host = DiffusersHost(unet.to(dtype), NoiseSchedule.scaled_linear())
    before = state(host)
    common = {"draw": draw_of(300), "temporal": tuned_temporal(host), "query_rank": rank}
    tuner, reports, applied = tune(host, clip, context, 2, learning_rate=1e-6, **common)
    assert {p.dtype for p in tuner.parameters.values()} == {torch.float32}
    assert {t.dtype for t in tuner.tensors().values()} == {torch.float32}
    assert equal(state(host), before)
    # Steps far below the resolution of the network's dtype are not lost.
    assert all(delta.abs().max() > 0 for delta in query_deltas(tuner.tensors()).values())

    full = DiffusersHost(copy.deepcopy(pristine), NoiseSchedule.scaled_linear())
    common["temporal"] = tuned_temporal(host)
    _, exact, expected = tune(full, clip, context, 2, learning_rate=1e-6, **common)
    assert reports[0].loss == pytest.approx(exact[0].loss, rel=0.02)
    assert reports[0].grad_norm == pytest.approx(exact[0].grad_norm, rel=0.1)
    key = f"{MID}.attn_temp.to_out.0.weight"
    difference = (applied[0][key] - expected[0][key]).norm() / expected[0][key].norm()
    assert float(difference) < 0.1  # unscaled, also for float16


def test_float16_gradients_that_overflow_skip_the_step_and_lower_the_scale(unet, clip, context):
    host = DiffusersHost(unet.half(), NoiseSchedule.scaled_linear())
    with Tuner(host, clip, context, TuningSettings(**FAST)) as tuner:
        before = values(tuner)
        hook = tuner.parameters[f"{MID}.attn_temp.to_out.0.bias"].register_hook(lambda g: g * math.inf)
        report = tuner.step()
        assert not math.isfinite(report.grad_norm)
        assert equal(values(tuner), before)
        hook.remove()
        assert math.isfinite(tuner.step().grad_norm)
        assert not equal(values(tuner), before)


def test_skips_are_reported_and_endless_ones_end_the_run(unet, clip, context, monkeypatch):
    monkeypatch.setattr(tuning, "MOST_SKIPS", 3)
    host = DiffusersHost(unet.half(), NoiseSchedule.scaled_linear())
    with Tuner(host, clip, context, TuningSettings(**FAST)) as tuner:
        assert not tuner.step().skipped
        before = values(tuner)
        hook = tuner.parameters[f"{MID}.attn_temp.to_out.0.bias"].register_hook(lambda g: g * math.inf)
        assert [tuner.step().skipped for _ in range(3)] == [True, True, True]
        with pytest.raises(NonFiniteLossError, match=r"3 times in a row until step 5; use a bf16 or fp32"):
            tuner.step()
        assert equal(values(tuner), before)
        hook.remove()
        assert not tuner.step().skipped


def test_tensors_made_in_inference_mode_can_be_tuned_on(host, clip, context):
    with torch.inference_mode():
        latents, prompt = clip * 1.0, context * 1.0
    _, inferred, _ = tune(host, latents, prompt, 1)
    _, plain, _ = tune(host, clip, context, 1)
    assert inferred == plain


@pytest.mark.parametrize("frames", [1, 2])
def test_one_frame_and_latents_in_another_layout(host, clip, context, frames):
    _, expected, _ = tune(host, clip[:frames], context, 1, draw=None)
    layout = clip[:frames].permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    _, reports, _ = tune(host, layout, context, 1)
    assert math.isfinite(expected[0].loss)
    assert reports[0].loss == pytest.approx(expected[0].loss, rel=1e-5)
