"""Cross-attention of frames that share a prompt."""

import torch

from tav_core.inflation.attach import attach
from tav_core.inflation.mode import InflationMode
from tav_core.patching import Overrides

MODES = (InflationMode(), InflationMode("off", "per frame"))


def predictions(host, x, context, frames, mode):
    """The network's answer, the rows that every cross-attention projected to keys, and the gradient of x."""
    rows = []
    keys = [block.attn2.to_k for block in host.transformer_blocks().values()]
    hooks = [key.register_forward_hook(lambda _, args, y: rows.append(len(y))) for key in keys]
    x = x.clone().requires_grad_()
    with Overrides() as overrides:
        attach(overrides, host, mode, {}, frames)
        answer = host.predict(x, 500, context)
    for hook in hooks:
        hook.remove()
    answer.square().sum().backward()
    return answer.detach(), rows, x.grad


def test_a_prompt_of_all_frames_is_projected_once_with_the_same_result(host, clip, context):
    for mode in MODES:
        shared, rows, gradient = predictions(host, clip, context, 3, mode)
        expected, rows_of_frames, expected_gradient = predictions(
            host, clip, context.expand(3, -1, -1), 3, mode
        )
        assert set(rows) == {1}
        assert set(rows_of_frames) == {3}
        torch.testing.assert_close(shared, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-4)


def test_each_clip_of_a_batch_has_a_row_of_its_own(host, clip, context):
    clips, contexts = torch.cat([clip, clip.flip(0)]), torch.cat([context, -context])
    both, rows, _ = predictions(host, clips, contexts, 3, InflationMode())
    assert set(rows) == {2}
    for i, part in enumerate((clip, clip.flip(0))):
        alone, _, _ = predictions(host, part, contexts[i : i + 1], 3, InflationMode())
        torch.testing.assert_close(both[3 * i : 3 * i + 3], alone, rtol=1e-4, atol=1e-5)


def test_a_prompt_for_each_frame_stays_with_its_frame(host, clip, context):
    """Prompts over time."""
    contexts = torch.cat([context, -context, 2 * context])
    mode = InflationMode("off", "per frame")
    together, _, _ = predictions(host, clip, contexts, 3, mode)
    for i in range(3):
        alone, _, _ = predictions(host, clip[i : i + 1], contexts[i : i + 1], 1, mode)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_nothing_is_left_when_detached(host, clip, context):
    before = host.predict(clip, 500, context)
    predictions(host, clip, context, 3, InflationMode())
    assert torch.equal(host.predict(clip, 500, context), before)
    assert all("forward" not in vars(block.attn2) for block in host.transformer_blocks().values())
