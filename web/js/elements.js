/** Making HTML and SVG elements. Texts from outside are set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** An HTML element with attributes, `on...` listeners, and children (elements or texts). */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  minus: "M3 7h10v2H3z",
  plus: "M7 3h2v4h4v2H9v4H7V9H3V7h4z",
};

/** A small picture that takes the colour of the text around it. */
export function icon(name) {
  return makeSvg(
    "svg",
    { viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" },
    makeSvg("path", { d: ICONS[name], fill: "currentColor" }),
  );
}

/** A button with an icon or a text, and a tooltip. */
export function button(content, title, onclick, className = "tav-button") {
  const child = content in ICONS ? icon(content) : content;
  return make("button", { type: "button", class: className, title, "aria-label": title, onclick }, child);
}

/** Calls `move(event)` while the pointer that pressed `element` is down, and `end()` after. */
export function onDrag(element, begin, move, end = () => {}) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const context = begin(event);
    if (context === null) return;
    const control = new AbortController();
    const stop = () => {
      control.abort();
      end(context);
    };
    const { signal } = control;
    window.addEventListener("pointermove", (moved) => move(moved, context), { signal });
    window.addEventListener("pointerup", stop, { signal });
    window.addEventListener("pointercancel", stop, { signal });
  });
}
