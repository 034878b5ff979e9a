/** A part of a node that we draw ourselves. Works on the canvas renderer and on Nodes 2.0, which both take DOM widgets. */

import { app } from "../../../scripts/app.js";
import { make } from "./elements.js";

const MARGIN = 6;

/**
 * Adds an element at the end of a node and returns it.
 *
 * height: pixels that it needs at least. It grows with the node unless `fixed`. Nothing of it is saved in workflows.
 */
export function addPanel(node, name, height, { fixed = false } = {}) {
  const element = make("div", { class: "tav-panel", "data-panel": name });
  element.style.minHeight = `${height}px`;
  const outer = height + 2 * MARGIN;
  const widget = node.addDOMWidget(name, "tav_panel", element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: () => outer,
    getMaxHeight: fixed ? () => outer : undefined,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  passWheel(element);
  return element;
}

/** Zooming goes on over a panel; on the canvas renderer it lies above the canvas and would swallow the wheel. */
function passWheel(element) {
  element.addEventListener("wheel", (event) => {
    if (window.LiteGraph?.vueNodesMode || scrolls(event.target, element)) return;
    event.preventDefault();
    app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event));
  });
}

function scrolls(target, root) {
  for (let part = target; part && part !== root.parentElement; part = part.parentElement) {
    if (part.scrollHeight > part.clientHeight + 1 && getComputedStyle(part).overflowY === "auto") return true;
  }
  return false;
}

/** Runs `callback` after a node's own method of that name. */
export function after(node, method, callback) {
  const original = node[method];
  node[method] = function (...values) {
    const result = original?.apply(this, values);
    callback.apply(this, values);
    return result;
  };
}

/** Calls `callback` whenever one of a node's widgets is changed by the user or by us. */
export function onWidgets(node, names, callback) {
  for (const widget of node.widgets ?? []) {
    if (names.includes(widget.name)) after(widget, "callback", () => callback(widget.name));
  }
  after(node, "onConfigure", () => callback(null));
}

/** A node's widget by name. */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** Whether a node's input comes over a connection. */
export function isLinked(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link != null) ?? false;
}

/** Keeps ComfyUI's own picture or video off a node whose panel shows it; works with both renderers. */
export function hideCorePreview(node) {
  // Nodes 2.0 asks for this.
  node.hideOutputImages = true;
  // The canvas renderer makes its preview while it draws the background, and not while it believes one to load.
  node.isLoading = true;
  node.onDrawBackground = () => {};
}
