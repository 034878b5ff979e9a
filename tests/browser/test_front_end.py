"""The pack in ComfyUI's page: a real browser against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from devkit.page import ComfyPage, overlaps
from devkit.paths import ROOT, WORKFLOWS
from devkit.server import Server
from devkit.video import write_video
from devkit.workflow import to_api
from tav_core.prompt_schedule import ScheduleError, parse_schedule

QUICKSTART = WORKFLOWS / "quickstart.json"
ALL = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
PACK_URL = "/extensions/comfyui-tune-a-video/js"
# Parts of a panel that reach out of it, and panels that need more room than they have.
CUT_OFF = """() => [...document.querySelectorAll('.tav-panel')].flatMap((panel) => {
    if (!panel.offsetParent) return [];
    const outer = panel.getBoundingClientRect();
    const parts = [...panel.querySelectorAll('button, select, input, canvas, svg, .tav-line, .tav-range')];
    const out = parts.filter((part) => {
        const inner = part.getBoundingClientRect();
        return inner.width > 0 && (inner.left < outer.left - 1 || inner.right > outer.right + 1
            || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
    });
    const high = panel.scrollHeight > panel.clientHeight + 1 ? ['too high'] : [];
    return [...out.map((part) => part.className.baseVal ?? part.className), ...high].map(
        (what) => `${panel.dataset.panel}: ${what}`);
})"""
MISSING = """() => app.graph.nodes.map((node) => node.type).filter((type) => !LiteGraph.registered_node_types[type])"""


def without_titles(prompt: dict) -> dict:
    return {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in prompt.items()}


@pytest.mark.parametrize("name", ALL)
def test_every_workflow_opens_whole_and_is_converted_as_the_command_line_does(
    window: ComfyPage, studio: Server, name: str
) -> None:
    """tests/workflows runs what devkit.workflow makes of a file; this is what the front end makes of it."""
    path = WORKFLOWS / f"{name}.json"
    window.load(path)
    assert window.page.evaluate(MISSING) == []
    window.look_at()
    assert overlaps(window.boxes()) == []
    workflow = json.loads(path.read_text(encoding="utf-8"))
    ours = without_titles(to_api(workflow, studio.client().object_info()))
    assert without_titles(window.prompt()) == ours


def test_a_video_is_uploaded_and_its_range_dragged(window: ComfyPage, tmp_path: Path, pictures: Path) -> None:
    levels = np.linspace(10, 240, 24).astype(np.uint8)[:, None, None, None]
    clip = write_video(tmp_path / "upload-me.mp4", np.broadcast_to(levels, (24, 64, 96, 3)), fps=12)
    window.load(QUICKSTART)
    window.look_at("TAVLoadVideo")
    x, y = window.page.evaluate(
        """() => {
            const node = app.graph.nodes.find((node) => node.type === 'TAVLoadVideo');
            const button = node.widgets.find((widget) => widget.type === 'button');
            const {scale, offset} = app.canvas.ds;
            const edge = app.canvas.canvas.getBoundingClientRect();
            return [edge.left + (node.pos[0] + node.size[0] / 2 + offset[0]) * scale,
                edge.top + (node.pos[1] + button.last_y + 10 + offset[1]) * scale];
        }"""
    )
    with window.page.expect_file_chooser() as chooser:
        window.page.mouse.click(x, y)
    chooser.value.set_files(str(clip))
    window.until(
        "() => app.graph.nodes.some((node) => node.widgets?.some((w) => w.value === 'upload-me.mp4'))"
    )
    panel = window.panel("frames_to_use")
    window.set_widgets("TAVLoadVideo", frame_count=8, frame_step=1, start_frame=0)
    window.until(
        "() => document.querySelector('[data-panel=frames_to_use] .tav-count')?.textContent.endsWith('/8')"
    )
    handle = panel.locator(".tav-handle-last").bounding_box()
    whole = panel.locator(".tav-range").bounding_box()
    middle = (handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    window.page.mouse.move(*middle)
    window.page.mouse.down()
    window.page.mouse.move(middle[0] + whole["width"] / 3, middle[1], steps=5)
    window.page.mouse.up()
    assert window.widget("TAVLoadVideo", "frame_count") == pytest.approx(16, abs=1)
    count = window.widget("TAVLoadVideo", "frame_count")
    window.until(
        "(end) => document.querySelector('[data-panel=frames_to_use] .tav-count').textContent.endsWith(end)",
        f"/{count}",
    )
    window.picture(pictures / "range.png")
    window.set_widgets("TAVLoadVideo", frame_count=99)
    window.until(
        "() => document.querySelector('[data-panel=frames_to_use] .tav-hint').textContent.includes('24 frames')"
    )
    window.set_widgets("TAVLoadVideo", video="sample.mp4", frame_count=4)


def curve(window: ComfyPage) -> int:
    """How many points the raw loss curve has."""
    text = "() => document.querySelector('[data-panel=loss_curve] .tav-raw')?.getAttribute('d') ?? ''"
    return window.page.evaluate(text).count("L")


def test_a_run_is_watched_reloaded_stopped_and_compared(window: ComfyPage, pictures: Path) -> None:
    steps = 5000
    window.load(QUICKSTART)
    window.set_widgets("TAVLoadVideo", frame_count=4)
    window.set_widgets("TAVTune", steps=steps, filename_prefix="browser/kept", seed=77)
    window.set_widgets("TAVDDIMInversion", steps=4)
    window.set_widgets("TAVSample", steps=4)
    # A panel outside of the window draws nothing.
    window.look_at("TAVTune")
    window.page.evaluate("() => app.queuePrompt(0, 1)")
    window.until("() => document.querySelector('[data-panel=loss_curve] .tav-raw')")
    first = curve(window)
    window.until(
        "(n) => (document.querySelector('[data-panel=loss_curve] .tav-raw')"
        ".getAttribute('d').match(/L/g) ?? []).length > n + 2",
        first,
    )
    window.picture(pictures / "tuning.png")
    before = curve(window)
    # The front end keeps the graph of an unsaved workflow a moment after the last change.
    window.page.wait_for_timeout(2000)
    window.open()
    window.until("() => app.graph.nodes.some((node) => node.type === 'TAVTune')")
    window.look_at("TAVTune")
    window.until("() => document.querySelector('[data-panel=loss_curve] .tav-raw')")
    assert curve(window) >= before, "the whole curve must be there again"
    window.picture(pictures / "tuning-after-reload.png")
    window.panel("loss_curve").locator("[data-action=stop]").click()
    window.until(
        "() => document.querySelector('[data-panel=loss_curve]').innerText.includes('stopped and kept')"
    )
    window.look_at("TAVCompareVideos", "TAVSample")
    window.until(
        "() => document.querySelector('[data-panel=comparison] .tav-count')?.textContent.endsWith('/4')"
    )
    shown = window.page.evaluate(
        "() => document.querySelector('[data-panel=comparison] .tav-count').textContent"
    )
    window.until(
        "(shown) => document.querySelector('[data-panel=comparison] .tav-count').textContent !== shown", shown
    )
    choice = window.panel("comparison").locator("[data-property=compare_view]")
    choice.select_option("wipe")
    assert window.page.evaluate(CUT_OFF) == []
    window.picture(pictures / "wipe.png")
    window.until(
        "() => document.querySelector('[data-panel=moving_preview] .tav-count')?.textContent.endsWith('/4')"
    )


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("modern", [False, True], ids=["canvas", "nodes2"])
def test_both_themes_and_both_renderers_show_everything(
    window: ComfyPage, pictures: Path, theme: str, modern: bool
) -> None:
    window.setting("Comfy.VueNodes.Enabled", modern)
    window.setting("Comfy.ColorPalette", theme)
    window.load(WORKFLOWS / ("per-frame-prompts.json" if "per-frame-prompts" in ALL else "quickstart.json"))
    window.look_at()
    window.picture(pictures / f"{theme}-{'nodes2' if modern else 'canvas'}.png")
    panels = window.page.locator(".tav-panel").count()
    cut = window.page.evaluate(CUT_OFF)
    overlapping = overlaps(window.boxes())
    window.setting("Comfy.VueNodes.Enabled", False)
    window.setting("Comfy.ColorPalette", "dark")
    assert panels >= 5
    assert cut == []
    assert overlapping == []


def test_a_server_without_our_routes_is_told_in_words(window: ComfyPage) -> None:
    window.page.route("**/tune_a_video/**", lambda route: route.fulfill(status=404, body="not found"))
    try:
        window.load(QUICKSTART)
        window.until(
            "() => document.querySelector('[data-panel=frames_to_use] .tav-hint').textContent.includes('Restart')"
        )
    finally:
        window.page.unroute("**/tune_a_video/**")


def test_every_language_says_everything(window: ComfyPage) -> None:
    words = window.page.evaluate(f"async () => (await import('{PACK_URL}/words.js')).WORDS")
    assert set(words) == {path.name for path in (ROOT / "locales").iterdir()}
    names = {key: {part.split("}")[0] for part in text.split("{")[1:]} for key, text in words["en"].items()}
    for language, texts in words.items():
        assert set(texts) == set(names), language
        for key, text in texts.items():
            found = {part.split("}")[0] for part in text.split("{")[1:]}
            assert text.strip() and found == names[key], f"{language}: {key}"


@pytest.mark.parametrize(
    "text",
    [
        "0: a\n12: b",
        '"0": "a man",\n\n"3" : \'b\' ,',
        "5: x\n1: y",
        "a cat",
        "0: a\n0: b",
        "",
        "0 a",
        " 7:  : , ",
    ],
)
def test_the_timeline_reads_schedules_as_the_node_does(window: ComfyPage, text: str) -> None:
    read = window.page.evaluate(
        f"async (text) => (await import('{PACK_URL}/schedule.js')).parseSchedule(text)", text
    )
    try:
        expected = [{"frame": key.frame, "text": key.text} for key in parse_schedule(text)]
    except ScheduleError:
        assert read["problem"] is not None
    else:
        assert read == {"keys": expected, "problem": None}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("moved({start: 4, step: 2, count: 6}, 100, 40)", {"start": 29, "step": 2, "count": 6}),
        ("withStart({start: 4, step: 2, count: 6}, -9, 40)", {"start": 0, "step": 2, "count": 8}),
        ("withLast({start: 4, step: 2, count: 6}, 100, 40)", {"start": 4, "step": 2, "count": 18}),
        ("withStep({start: 4, step: 2, count: 6}, 5, 20)", {"start": 4, "step": 5, "count": 4}),
    ],
)
def test_dragging_stays_inside_the_clip(window: ComfyPage, call: str, expected: dict) -> None:
    assert window.page.evaluate(f"async () => (await import('{PACK_URL}/range.js')).{call}") == expected


# Last, for it leaves a node at the pointer.
@pytest.mark.parametrize(
    ("words", "node_type"), [("one-shot tuning", "TAVTune"), ("ddim inversion", "TAVDDIMInversion")]
)
def test_nodes_are_found_in_the_search_box(window: ComfyPage, words: str, node_type: str) -> None:
    close = window.page.locator("[role=dialog] button:has(.icon-\\[lucide--x\\], .pi-times)").first
    there = "(type) => app.graph.nodes.some((node) => node.type === type)"
    # The first start ever shows the templates over the graph, at a moment of its own choice.
    for _ in range(8):
        if close.is_visible():
            close.click()
        window.page.evaluate(
            "() => { app.graph.clear(); app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]; }"
        )
        window.page.mouse.dblclick(900, 500)
        window.page.wait_for_timeout(1000)
        window.page.keyboard.type(words, delay=20)
        window.page.wait_for_timeout(1500)
        window.page.keyboard.press("Enter")
        window.page.wait_for_timeout(1000)
        if window.page.evaluate(there, node_type):
            break
        window.page.keyboard.press("Escape")
    assert window.page.evaluate(there, node_type)
