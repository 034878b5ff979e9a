"""ComfyUI's page in a real browser: opening workflows, finding nodes and panels, changing looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import browser
from .workflow import find_one

SIZE = {"width": 1600, "height": 1000}
# A page takes seconds on an idle machine and minutes on a busy one.
_PATIENCE_MS = 240_000
_POLL_MS = 200
# Seconds after a click on the canvas until the next; together they make our patience.
_CANVAS_WAITS = range(1, 16)
# The same for what loads something.
_LOADING_WAITS = (30,) * 8
_DIALOG = "() => Boolean(document.querySelector('[role=dialog]'))"
# The browser's words on an answer that is no success (the panels say it in theirs), ComfyUI's on its own start, and
# its look-up of the models of the workflow that it opens first, and of its own template package.
_NOT_OURS = (
    "Failed to load resource",
    "Error loading fuse options",
    "Error loading core workflow templates",
    "ComfyApp graph accessed before initialization",
    "Connecting to 'https://huggingface.co",
    "Fetch API cannot load https://huggingface.co",
)
# Asking for the graph too early is an error of its own.
_LOADED = (
    "() => Boolean(window.app?.isGraphReady && window.app.canvas?.canvas && window.app.extensionManager)"
)
# A few frames later than `frame`, and no panel has moved since the last look.
_DRAWN = """(frame) => {
    if (app.canvas.frame < frame + 3) return false;
    const panels = JSON.stringify(
        [...document.querySelectorAll('.tav-panel')].map((panel) => panel.getBoundingClientRect()));
    const resting = panels === window.panelsBefore;
    window.panelsBefore = panels;
    return resting;
}"""
_BOXES = """() => app.graph.nodes.map((node) => {
    const [x, y, width, height] = node.getBounding();
    return {id: String(node.id), type: node.type, x, y, width, height};
})"""


@contextmanager
def browser_context() -> Iterator[Any]:
    """A running browser as a Playwright context, closed afterwards. Raises NoBrowserError."""
    path = browser.executable()
    with browser.playwright().sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=str(path), args=list(browser.ARGUMENTS), timeout=_PATIENCE_MS
        )
        try:
            yield _new_context(launched)
        finally:
            launched.close()


@contextmanager
def another_window(context: Any, url: str) -> Iterator[ComfyPage]:
    """A window that shares nothing with `context` but the running browser, as one on another computer would."""
    apart = _new_context(context.browser)
    try:
        yield ComfyPage(apart, url)
    finally:
        apart.close()


def _new_context(launched: Any) -> Any:
    context = launched.new_context(viewport=SIZE, locale="en-US")
    context.set_default_timeout(_PATIENCE_MS)
    return context


class ComfyPage:
    """One window on the server at `url`; a context is from `browser_context`. Collects what goes wrong in `errors`."""

    def __init__(self, context: Any, url: str) -> None:
        self.url = url
        self.errors: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open()

    def open(self) -> None:
        """Load the page, or load it again."""
        self.page.goto(self.url, wait_until="commit")
        self.until(_LOADED)
        # Templates or a tour would cover the graph on the first visit, the map always covers a part of it.
        self.setting("Comfy.TutorialCompleted", True)
        self.setting("Comfy.Minimap.Visible", False)
        self.page.keyboard.press("Escape")

    def until(self, condition: str, argument: Any = None) -> Any:
        """Wait until a JavaScript function gives something true, and return it."""
        # Polled by time: a hidden page draws no frames, which is Playwright's own measure.
        found = self.page.wait_for_function(condition, arg=argument, polling=_POLL_MS, timeout=_PATIENCE_MS)
        return found.json_value()

    def insist(
        self,
        action: Callable[[], object],
        done: Callable[[], object],
        waits: Iterable[float] = _CANVAS_WAITS,
    ) -> None:
        """Repeat `action`, a click, until `done()`; raises TimeoutError when it never is.

        When the machine is too busy to be quick, the canvas takes a click for a drag, and a double click for two, and
        cards that are drawn anew feel no click.
        """
        for seconds in waits:
            action()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if done():
                    return
                self.page.wait_for_timeout(_POLL_MS)
        raise TimeoutError("A click had no effect.")

    def setting(self, name: str, value: Any) -> None:
        """Change a setting of the front end."""
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def load(self, workflow: dict | Path) -> None:
        """Open a workflow and wait until all of its panels are there."""
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        # In the tab that is open: each more tab makes the page slower.
        self.page.evaluate(
            """(workflow) => app.loadGraphData(
                workflow, true, true, app.extensionManager.workflow.activeWorkflow)""",
            workflow,
        )
        self.until("(count) => app.graph.nodes.length === count", len(workflow["nodes"]))

    def open_templates(self, category: str) -> dict[str, Any]:
        """Open the template browser at a category and return its cards' Playwright locators by template name."""
        # What was left open covers the button.
        self.insist(lambda: self.page.keyboard.press("Escape"), lambda: not self.page.evaluate(_DIALOG))
        self.page.get_by_role("button", name="Templates", exact=True).first.click()
        self.page.locator("[role=dialog]").get_by_text(category, exact=True).first.click()
        # The heading over the cards repeats the category that is shown.
        self.until(
            """(category) => [...document.querySelectorAll('[role=dialog] span')].filter(
                (part) => part.textContent.trim() === category).length > 1""",
            category,
        )
        prefix = "template-workflow-"
        names = self.page.evaluate(
            """(prefix) => [...document.querySelectorAll(`[data-testid^=${prefix}]`)].map(
                (card) => card.dataset.testid.slice(prefix.length))""",
            prefix,
        )
        return {name: self.page.get_by_test_id(prefix + name) for name in names}

    def open_template(self, category: str, name: str) -> None:
        """Open a workflow by its card in the template browser, in place of all that are open."""
        before = self.page.evaluate(
            "() => app.extensionManager.workflow.openWorkflows.map((one) => one.path)"
        )
        opened = """([before, name]) => {
            const now = app.extensionManager.workflow.activeWorkflow;
            return !before.includes(now.path) && now.filename.startsWith(name)
                && !document.querySelector('[role=dialog]');
        }"""
        self.insist(
            lambda: self.open_templates(category)[name].click(),
            lambda: self.page.evaluate(opened, [before, name]),
            _LOADING_WAITS,
        )
        # Each more tab makes the page slower.
        self.page.evaluate(
            """async (before) => {
                const store = app.extensionManager.workflow;
                for (const one of store.openWorkflows.filter((one) => before.includes(one.path))) {
                    await store.closeWorkflow(one);
                }
            }""",
            before,
        )

    def prompt(self) -> dict:
        """The open workflow in API format, as the front end itself makes it."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def node(self, selector: str) -> str:
        """The id of the only node that a class, title or id means."""
        return find_one(self.prompt(), selector)

    def set_widgets(self, node_type: str, **values: Any) -> None:
        """Set widgets of every node of a type, as if typed."""
        self.page.evaluate(
            """([type, values]) => {
                for (const node of app.graph.nodes.filter((node) => node.type === type)) {
                    for (const [name, value] of Object.entries(values)) {
                        const widget = node.widgets.find((widget) => widget.name === name);
                        widget.value = value;
                        widget.callback?.(value);
                    }
                }
            }""",
            [node_type, values],
        )

    def widget(self, node_type: str, name: str) -> Any:
        """The value of a widget of the first node of a type."""
        return self.page.evaluate(
            """([type, name]) => app.graph.nodes.find((node) => node.type === type)
                .widgets.find((widget) => widget.name === name).value""",
            [node_type, name],
        )

    def panel(self, name: str) -> Any:
        """A Playwright locator of a panel, by the name that its module gave it."""
        return self.page.locator(f'[data-panel="{name}"]').first

    def look_at(self, *node_types: str, room: float = 40) -> None:
        """Move the canvas so that the nodes of these types (all without any) fill the window, and see it drawn."""
        frame = self.page.evaluate(
            """([types, room]) => {
                const nodes = app.graph.nodes.filter((node) => !types.length || types.includes(node.type));
                const boxes = nodes.map((node) => [...node.getBounding()]);
                const left = Math.min(...boxes.map((b) => b[0])) - room;
                const top = Math.min(...boxes.map((b) => b[1])) - room;
                const right = Math.max(...boxes.map((b) => b[0] + b[2])) + room;
                const bottom = Math.max(...boxes.map((b) => b[1] + b[3])) + room;
                const element = app.canvas.canvas;
                // The page's own bars lie over the canvas at the left and the top.
                const [aside, above] = [70, 90];
                const [width, height] = [element.clientWidth - aside, element.clientHeight - above];
                const scale = Math.min(1.4, width / (right - left), height / (bottom - top));
                app.canvas.ds.scale = scale;
                app.canvas.ds.offset[0] = ((2 * aside + width) / scale - (left + right)) / 2;
                app.canvas.ds.offset[1] = ((2 * above + height) / scale - (top + bottom)) / 2;
                app.canvas.setDirty(true, true);
                window.panelsBefore = null;
                return app.canvas.frame;
            }""",
            [list(node_types), room],
        )
        self.until(_DRAWN, frame)

    def boxes(self) -> list[dict]:
        """Where every node lies: id, type, x, y, width, height."""
        return self.page.evaluate(_BOXES)

    def picture(self, path: Path, **options: Any) -> Path:
        """Take a picture of the window (or of `clip`); the format goes by the suffix."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            options = {"type": "jpeg", "quality": 82, **options}
        self.page.screenshot(path=str(path), timeout=_PATIENCE_MS, **options)
        return path

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(_NOT_OURS):
            self.errors.append(message.text)


def overlaps(boxes: list[dict], slack: float = 2) -> list[str]:
    """The pairs of nodes that lie over each other by more than `slack`."""
    found = []
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
            down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
            if across > slack and down > slack:
                found.append(f"{a['type']} {a['id']} and {b['type']} {b['id']}, by {across:.0f} x {down:.0f}")
    return found
