"""The pack in ComfyUI's page: a real browser against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from devkit.base import PACK_NAME
from devkit.page import ComfyPage, another_window, overlaps
from devkit.paths import ROOT, WORKFLOWS
from devkit.server import Server
from devkit.video import write_video
from devkit.workflow import to_api
from tav_core.prompts import ScheduleError, parse_schedule

QUICKSTART = WORKFLOWS / "quickstart.json"
ALL = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
# Theme and renderer; the first is the front end's own choice.
LOOKS = ("dark-canvas", "light-canvas", "dark-nodes2", "light-nodes2")
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
# A panel's player that shows the four frames that the tests choose.
FOUR_FRAMES = (
    "(name) => document.querySelector(`[data-panel=${name}] .tav-count`)?.textContent.endsWith('/4') ?? false"
)
MISSING = """() => app.graph.nodes.map((node) => node.type).filter((type) => !LiteGraph.registered_node_types[type])"""


def without_titles(prompt: dict) -> dict:
    return {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in prompt.items()}


def test_the_template_browser_shows_a_card_with_its_picture_for_every_workflow(
    window: ComfyPage, pictures: Path
) -> None:
    cards = window.open_templates(PACK_NAME)
    assert sorted(cards) == ALL
    for name, card in cards.items():
        # A card's picture is loaded when the card comes into sight.
        card.scroll_into_view_if_needed()
        shown = window.until(
            """(name) => {
                const picture = document.querySelector(`[data-testid="template-workflow-${name}"] img`);
                return picture?.complete && picture.naturalWidth && [picture.naturalHeight, picture.naturalWidth];
            }""",
            name,
        )
        # The browser has a picture of its own for templates that come without one.
        assert tuple(shown) == cv2.imread(str(WORKFLOWS / f"{name}.jpg")).shape[:2], name
    window.picture(pictures / "templates.png")
    window.page.keyboard.press("Escape")
    window.until("() => !document.querySelector('[role=dialog]')")


@pytest.mark.parametrize("name", ALL)
def test_every_workflow_opens_from_its_card_whole_and_is_converted_as_the_command_line_does(
    window: ComfyPage, studio: Server, name: str
) -> None:
    """tests/workflows runs what devkit.workflow makes of a file; this is what the front end makes of it."""
    window.open_template(PACK_NAME, name)
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    opened = window.page.evaluate("() => app.graph.nodes.map((node) => String(node.id))")
    assert sorted(opened) == sorted(str(node["id"]) for node in workflow["nodes"])
    assert window.page.evaluate(MISSING) == []
    window.look_at()
    assert overlaps(window.boxes()) == []
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
    choosers: list = []
    window.page.once("filechooser", lambda chooser: choosers.append(chooser))
    window.insist(lambda: window.page.mouse.click(x, y), lambda: choosers)
    choosers[0].set_files(str(clip))
    window.until(
        "() => app.graph.nodes.some((node) => node.widgets?.some((w) => w.value === 'upload-me.mp4'))"
    )
    panel = window.panel("frames_to_use")
    window.set_widgets("TAVLoadVideo", frame_count=8, frame_stride=1, start_frame=0)
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
    """How many points the raw loss curve has; a long one is thinned out, so only this many are counted."""
    text = "() => document.querySelector('[data-panel=loss_curve] .tav-raw')?.getAttribute('d') ?? ''"
    return min(200, window.page.evaluate(text).count("L"))


def see_curve_grow(window: ComfyPage) -> int:
    """Wait until the loss curve is there and has grown; returns its points."""
    window.until("() => document.querySelector('[data-panel=loss_curve] .tav-raw')")
    window.until(
        "(n) => (document.querySelector('[data-panel=loss_curve] .tav-raw')"
        "?.getAttribute('d').match(/L/g) ?? []).length > n + 2",
        curve(window),
    )
    return curve(window)


def see_results(window: ComfyPage) -> None:
    """Wait until every panel shows what the finished run left."""
    window.until(
        "() => document.querySelector('[data-panel=loss_curve]').innerText.includes('stopped and kept')"
    )
    window.until(FOUR_FRAMES, "moving_preview")
    window.until(FOUR_FRAMES, "comparison")


def put_on(window: ComfyPage, look: str) -> None:
    """Give the front end one of LOOKS."""
    theme, renderer = look.split("-")
    window.setting("Comfy.VueNodes.Enabled", renderer == "nodes2")
    window.setting("Comfy.ColorPalette", theme)


def check_look(window: ComfyPage, look: str, picture: Path) -> None:
    """Everything is there and readable in one of LOOKS; the first one is put on again."""
    put_on(window, look)
    try:
        window.look_at()
        window.until("() => document.querySelectorAll('.tav-panel').length >= 5")
        window.picture(picture)
        assert window.page.evaluate(CUT_OFF) == []
        assert overlaps(window.boxes()) == []
    finally:
        put_on(window, LOOKS[0])


def test_a_run_is_watched_in_two_windows_reloaded_stopped_and_compared(
    window: ComfyPage, studio: Server, pictures: Path
) -> None:
    window.load(QUICKSTART)
    window.set_widgets("TAVLoadVideo", frame_count=4)
    # More than any machine makes before it is stopped.
    window.set_widgets("TAVTune", steps=20000, filename_prefix="browser/kept", seed=77)
    window.set_widgets("TAVDDIMInversion", steps=4)
    window.set_widgets("TAVSample", steps=4)
    # A panel outside of the window draws nothing.
    window.look_at("TAVTune")
    window.page.evaluate("() => app.queuePrompt(0, 1)")
    before = see_curve_grow(window)
    window.picture(pictures / "tuning.png")
    # The front end keeps the graph of an unsaved workflow a moment after the last change.
    window.until("() => Object.values(localStorage).some((kept) => kept.includes(app.rootGraph.id))")
    window.open()
    window.until("() => app.graph.nodes.some((node) => node.type === 'TAVTune')")
    window.look_at("TAVTune")
    window.until("() => document.querySelector('[data-panel=loss_curve] .tav-raw')")
    assert curve(window) >= before, "the whole curve must be there again"
    window.picture(pictures / "tuning-after-reload.png")

    with another_window(window.page.context, studio.url) as second:
        second.load(QUICKSTART)
        second.look_at("TAVTune")
        assert see_curve_grow(second) > before
        second.picture(pictures / "tuning-in-second-window.png")
        window.panel("loss_curve").locator("[data-action=stop]").click()
        for each in (window, second):
            each.look_at("TAVCompareVideos", "TAVSample")
            see_results(each)
        second.picture(pictures / "results-in-second-window.png")
        assert second.errors == []

    shown = window.panel("comparison").locator(".tav-count").text_content()
    window.until(
        "(shown) => document.querySelector('[data-panel=comparison] .tav-count').textContent !== shown", shown
    )
    window.panel("comparison").locator("[data-property=compare_view]").select_option("wipe")
    assert window.page.evaluate(CUT_OFF) == []
    window.picture(pictures / "wipe.png")

    with another_window(window.page.context, studio.url) as fresh:
        fresh.load(QUICKSTART)
        fresh.look_at()
        see_results(fresh)
        for look in LOOKS:
            check_look(fresh, look, pictures / f"results-{look}.png")
        assert fresh.errors == []


@pytest.mark.parametrize("look", LOOKS)
def test_both_themes_and_both_renderers_show_everything(window: ComfyPage, pictures: Path, look: str) -> None:
    window.load(WORKFLOWS / "per-frame-prompts.json")
    check_look(window, look, pictures / f"{look}.png")


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
    words = window.page.evaluate(f"async () => (await import('{PACK_URL}/translations.js')).TRANSLATIONS")
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


@pytest.mark.parametrize(
    ("words", "title", "node_type"),
    [
        ("one-shot tuning", "Tune on One Video", "TAVTune"),
        ("ddim inversion", "DDIM Inversion", "TAVDDIMInversion"),
    ],
)
def test_nodes_are_dragged_from_the_search_box(
    window: ComfyPage, pictures: Path, words: str, title: str, node_type: str
) -> None:
    page = window.page
    page.evaluate("() => { app.graph.clear(); app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]; }")
    box = page.get_by_role("combobox", name="Add a node")
    window.insist(lambda: page.mouse.dblclick(900, 500), box.is_visible)
    box.fill(words)
    result = page.get_by_test_id("result-item").first
    window.until(
        "(title) => document.querySelector('[data-testid=result-item]')?.innerText.includes(title)", title
    )
    window.picture(pictures / f"search-{node_type}.png")
    result.click()
    # The node now hangs at the pointer, until it is put down.
    window.until(
        "(type) => app.graph.nodes.some((node) => node.type === type && node.flags.ghost)", node_type
    )
    x, y = 600, 300
    page.mouse.move(x, y, steps=5)
    put_down = "(type) => app.graph.nodes.some((node) => node.type === type && !node.flags.ghost)"
    window.insist(lambda: page.mouse.click(x, y), lambda: page.evaluate(put_down, node_type))
    edge = page.evaluate("() => { const {x, y} = app.canvas.canvas.getBoundingClientRect(); return [x, y]; }")
    (node,) = window.boxes()
    assert node["x"] <= x - edge[0] <= node["x"] + node["width"]
    assert node["y"] <= y - edge[1] <= node["y"] + node["height"]
