/** A bar over the whole clip with the chosen frames on it; both ends and the middle can be dragged. */

import { make, onDrag } from "./elements.js";
import { lastFrame, moved, withLast, withStart } from "./range.js";
import { translate } from "./translations.js";

const MOST_TICKS = 64;

export class RangeBar {
  /** `change(range)` is called while the user drags. */
  constructor(change) {
    this.change = change;
    this.total = 0;
    this.range = { start: 0, step: 1, count: 1 };
    this.film = make("div", { class: "tav-film" });
    this.ticks = make("div", { class: "tav-ticks" });
    this.body = make("div", { class: "tav-body", title: translate("rangeBody") }, this.ticks);
    this.first = this.handle("first", translate("startHandle"), withStart, (range) => range.start);
    this.last = this.handle("last", translate("endHandle"), withLast, lastFrame);
    this.element = make("div", { class: "tav-range" }, this.film, this.body, this.first, this.last);
    this.drag(this.body, moved, (range) => range.start);
  }

  handle(name, title, set, get) {
    const element = make("div", {
      class: `tav-handle tav-handle-${name}`,
      title,
      role: "slider",
      tabindex: 0,
      "aria-label": title,
    });
    this.drag(element, set, get);
    element.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!direction) return;
      event.preventDefault();
      event.stopPropagation();
      this.change(set(this.range, get(this.range) + direction * this.range.step, this.total));
    });
    return element;
  }

  drag(element, set, get) {
    onDrag(
      element,
      (event) => (this.total > 0 && !this.element.inert ? { x: event.clientX, range: this.range } : null),
      (event, { x, range }) => {
        const width = this.element.getBoundingClientRect().width || 1;
        const frames = ((event.clientX - x) / width) * this.total;
        this.change(set(range, get(range) + frames, this.total));
      },
    );
  }

  /** Sets what is shown: the clip's length, its strip of pictures (or null), the chosen range. */
  set(total, strip, range) {
    Object.assign(this, { total, range });
    if (strip !== this.strip) this.showStrip(strip);
    const percent = (frame) => `${(100 * Math.min(Math.max(frame, 0), total)) / Math.max(1, total)}%`;
    const last = lastFrame(range);
    this.body.style.left = percent(range.start);
    this.body.style.right = `calc(100% - ${percent(last + 1)})`;
    this.first.style.left = percent(range.start);
    this.last.style.left = percent(last + 1);
    this.element.classList.toggle("tav-wrong", total > 0 && last >= total);
    for (const [element, value] of [[this.first, range.start], [this.last, last]]) {
      element.setAttribute("aria-valuemin", 0);
      element.setAttribute("aria-valuemax", Math.max(0, total - 1));
      element.setAttribute("aria-valuenow", value);
    }
    const shown = range.count <= MOST_TICKS && range.step > 1 ? range.count : 0;
    const span = Math.max(1, last + 1 - range.start);
    const tick = (_, i) => {
      const element = make("i");
      element.style.left = `${(100 * (i * range.step + 0.5)) / span}%`;
      return element;
    };
    this.ticks.replaceChildren(...Array.from({ length: shown }, tick));
  }

  showStrip(strip) {
    this.strip = strip;
    const cell = (_, i) => {
      const element = make("i");
      const rows = Math.ceil(strip.frames / strip.columns);
      const place = (index, count) => (count > 1 ? (100 * index) / (count - 1) : 0);
      element.style.backgroundImage = `url("${strip.picture}")`;
      element.style.backgroundSize = `${100 * strip.columns}% ${100 * rows}%`;
      const [x, y] = [i % strip.columns, Math.floor(i / strip.columns)];
      element.style.backgroundPosition = `${place(x, strip.columns)}% ${place(y, rows)}%`;
      return element;
    };
    this.film.replaceChildren(...(strip ? Array.from({ length: strip.frames }, cell) : []));
  }
}
