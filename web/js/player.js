/** A small player for sprite sheets: one clip, several side by side, or two with a wipe between them. */

import { button, icon, make, onDrag } from "./elements.js";
import { translate } from "./translations.js";

const GAP = 4;
const CAPTION = 16;

export class Player {
  /** `hint` is shown while there is no clip. */
  constructor(hint) {
    this.sheets = [];
    this.wipe = null;
    this.canvas = make("canvas", { class: "tav-screen" });
    this.hint = make("div", { class: "tav-hint" }, hint);
    this.toggle = button("pause", translate("pause"), () => this.setPlaying(!this.clock.playing), "tav-button tav-round");
    this.scrub = make("input", { type: "range", min: 0, max: 0, value: 0, class: "tav-scrub", "aria-label": translate("frame") });
    this.scrub.addEventListener("input", () => this.seek(Number(this.scrub.value)));
    this.counter = make("span", { class: "tav-count" });
    this.controls = make("div", { class: "tav-row tav-controls" }, this.toggle, this.scrub, this.counter);
    this.stage = make("div", { class: "tav-stage" }, this.canvas, this.hint);
    this.element = make("div", { class: "tav-player" }, this.stage, this.controls);
    this.clock = new Clock(this.stage, (frame) => this.draw(frame));
    new ResizeObserver(() => this.draw(this.clock.frame)).observe(this.stage);
    onDrag(
      this.canvas,
      (event) => (this.wipe === null ? null : (this.moveWipe(event), {})),
      (event) => this.moveWipe(event),
    );
    this.show([]);
  }

  /** Plays these sheets in step, at `fps` or the first one's own rate. */
  show(sheets, fps = sheets[0]?.layout.fps ?? 8) {
    this.sheets = sheets;
    this.hint.hidden = sheets.length > 0;
    this.canvas.hidden = this.controls.hidden = sheets.length === 0;
    const frames = sheets.length ? Math.min(...sheets.map((sheet) => sheet.layout.frames)) : 1;
    this.scrub.max = frames - 1;
    if (sheets.length) this.clock.set(frames, fps);
  }

  /** Shows a text in place of the picture. */
  showText(text) {
    this.hint.textContent = text;
    this.show([]);
  }

  /** Shows the first two sheets over each other, with the border at 0..1; null shows all side by side. */
  setWipe(border) {
    this.wipe = border;
    this.canvas.classList.toggle("tav-wipe", border !== null);
    this.draw(this.clock.frame);
  }

  setPlaying(playing) {
    this.clock.playing = playing;
    this.toggle.replaceChildren(icon(playing ? "pause" : "play"));
    this.toggle.title = translate(playing ? "pause" : "play");
    this.toggle.setAttribute("aria-label", this.toggle.title);
  }

  seek(frame) {
    this.setPlaying(false);
    this.clock.seek(frame);
  }

  moveWipe(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    // The page may be zoomed; the rectangle is, the canvas's own pixels are not.
    const x = ((event.clientX - left) / width) * this.canvas.width;
    const [start, , size] = this.places()[0];
    this.setWipe(Math.min(1, Math.max(0, (x - start) / size)));
  }

  /** Where each sheet lies on the canvas: [x, y, width, height] in its pixels. */
  places() {
    const shown = this.wipe === null ? this.sheets : this.sheets.slice(0, 1);
    const { width: w, height: h } = this.sheets[0].layout;
    const ratio = this.ratio;
    const top = shown.some((sheet) => sheet.caption) || this.wipe !== null ? CAPTION * ratio : 0;
    const gap = GAP * ratio;
    const { width, height } = this.canvas;
    let best = null;
    for (let columns = 1; columns <= shown.length; columns++) {
      const rows = Math.ceil(shown.length / columns);
      const room = [(width - gap * (columns - 1)) / columns / w, (height - gap * (rows - 1)) / rows / h - top / h];
      const size = Math.min(...room);
      if (!best || size > best.size) best = { size, columns, rows };
    }
    const cell = [best.size * w, best.size * h];
    const left = (width - best.columns * cell[0] - (best.columns - 1) * gap) / 2;
    const first = (height - best.rows * (cell[1] + top) - (best.rows - 1) * gap) / 2;
    return shown.map((_, i) => [
      left + (i % best.columns) * (cell[0] + gap),
      first + Math.floor(i / best.columns) * (cell[1] + top + gap) + top,
      ...cell,
    ]);
  }

  draw(frame) {
    if (!this.sheets.length || !this.stage.clientWidth) return;
    this.scrub.value = frame;
    this.counter.textContent = `${frame + 1}/${this.clock.frames}`;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    const size = [this.stage.clientWidth, this.stage.clientHeight].map((side) => Math.round(side * this.ratio));
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, ...size);
    const ink = getComputedStyle(this.stage).color;
    const places = this.places();
    if (this.wipe === null) {
      places.forEach((place, i) => {
        this.sheets[i].draw(context, frame, place);
        this.write(context, ink, this.sheets[i].caption, place[0], place[1], place[2]);
      });
      return;
    }
    const [place] = places;
    const [source, edit] = this.sheets;
    (edit ?? source).draw(context, frame, place);
    source.draw(context, frame, place, this.wipe);
    this.writeBoth(context, ink, source.caption, edit?.caption, place);
    const x = place[0] + place[2] * this.wipe;
    context.fillStyle = "#000";
    context.fillRect(x - 2 * this.ratio, place[1], 4 * this.ratio, place[3]);
    context.fillStyle = "#fff";
    context.fillRect(x - this.ratio, place[1], 2 * this.ratio, place[3]);
  }

  /** Two captions above one picture, each on its side, beyond the picture's edge where they are longer. */
  writeBoth(context, ink, left, right, [x, y, width]) {
    context.font = this.font();
    const gap = GAP * this.ratio;
    const middle = x + width / 2;
    const part = (text) => Math.min(middle - gap, Math.max(width / 2 - gap, context.measureText(text ?? "").width));
    this.write(context, ink, left, middle - gap - part(left), y, part(left));
    this.write(context, ink, right, middle + gap, y, part(right), "right");
  }

  /** A caption above a sheet, shortened to the width that it has. */
  write(context, ink, text, x, y, width, align = "left") {
    if (!text) return;
    context.font = this.font();
    context.fillStyle = ink;
    context.textAlign = align;
    context.textBaseline = "alphabetic";
    let shown = text;
    while (shown.length > 1 && context.measureText(shown).width > width) {
      shown = `${shown.replace(/…$/, "").slice(0, -1)}…`;
    }
    context.fillText(shown, align === "left" ? x : x + width, y - 4 * this.ratio);
  }

  font() {
    return `${12 * this.ratio}px system-ui, sans-serif`;
  }
}

/** Counts frames in time; stands still while its element cannot be seen. */
class Clock {
  constructor(element, onFrame) {
    Object.assign(this, { element, onFrame, frames: 1, fps: 8, frame: 0, playing: true, last: 0 });
    this.tick = this.tick.bind(this);
  }

  /** Sets length and rate and starts the clock. */
  set(frames, fps) {
    this.frames = Math.max(1, frames);
    this.fps = Math.min(60, Math.max(0.5, fps));
    this.frame %= this.frames;
    if (!this.request) this.request = requestAnimationFrame(this.tick);
    this.onFrame(this.frame);
  }

  /** Stops at a frame. */
  seek(frame) {
    this.playing = false;
    this.frame = frame;
    this.onFrame(frame);
  }

  tick(now) {
    this.request = requestAnimationFrame(this.tick);
    if (!this.playing || this.frames < 2 || now - this.last < 1000 / this.fps) return;
    if (!this.element.isConnected || !this.element.offsetParent) return;
    this.last = now;
    this.frame = (this.frame + 1) % this.frames;
    this.onFrame(this.frame);
  }
}
