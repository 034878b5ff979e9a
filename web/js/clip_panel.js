/** Load Video Frames: plays the frames as they will be used, and lets the user drag which ones. */

import { button, make } from "./elements.js";
import { listen } from "./live.js";
import { addPanel, after, hideCorePreview, isLinked, onWidgets, widgetOf } from "./panel.js";
import { Player } from "./player.js";
import { lastFrame, withStep } from "./range.js";
import { RangeBar } from "./range_bar.js";
import { get } from "./server.js";
import { loadSheets, SpriteSheet } from "./sprite_sheet.js";
import { translate } from "./translations.js";

const HEIGHT = 280;
const WAIT = 250;
const NAMES = { start: "start_frame", step: "frame_stride", count: "frame_count" };
const INPUTS = ["video", ...Object.values(NAMES), "width", "height", "fit", "resample_fps"];

/** Adds the panel. */
export function addClipPanel(node) {
  hideCorePreview(node);
  new ClipPanel(node);
}

class ClipPanel {
  constructor(node) {
    this.node = node;
    this.clip = null;
    this.player = new Player(translate("noVideo"));
    this.bar = new RangeBar((range) => this.choose(range));
    this.label = make("span", { class: "tav-line tav-grow" });
    const step = (change) => () => this.choose(withStep(this.range(), this.range().step + change, this.clip?.frames ?? 0));
    this.denser = button("minus", translate("denser"), step(-1), "tav-button tav-round");
    this.wider = button("plus", translate("wider"), step(1), "tav-button tav-round");
    const row = make("div", { class: "tav-row" }, this.label, this.denser, this.wider);
    this.chooser = make("div", { class: "tav-chooser" }, this.bar.element, row);
    addPanel(node, "frames_to_use", HEIGHT).append(this.player.element, this.chooser);
    onWidgets(node, INPUTS, () => this.later());
    after(node, "onConnectionsChange", () => this.later());
    after(node, "onRemoved", () => this.cancel());
    listen(node, { output: (output) => this.take(output) });
    this.later();
  }

  value(name) {
    return widgetOf(this.node, name)?.value;
  }

  range() {
    return Object.fromEntries(Object.entries(NAMES).map(([key, name]) => [key, Number(this.value(name) ?? 1)]));
  }

  /** Writes a range into the node's widgets, as if typed. */
  choose(range) {
    for (const [key, name] of Object.entries(NAMES)) {
      const widget = widgetOf(this.node, name);
      if (!widget || isLinked(this.node, name) || widget.value === range[key]) continue;
      widget.value = range[key];
      widget.callback?.(range[key]);
    }
    this.node.graph?.setDirtyCanvas?.(true, true);
    this.showRange();
  }

  showRange() {
    const range = this.range();
    const total = this.clip?.frames ?? 0;
    const linked = Object.values(NAMES).some((name) => isLinked(this.node, name));
    this.bar.element.inert = linked;
    this.denser.disabled = this.wider.disabled = linked;
    this.chooser.hidden = !this.clip;
    this.bar.set(total, this.clip?.strip ?? null, range);
    const words = translate("chosen", { count: range.count, first: range.start, last: lastFrame(range), total });
    const every = range.step > 1 ? ` · ${translate("every", { step: range.step })}` : "";
    this.label.textContent = linked ? translate("linkedRange") : words + every;
    this.label.title = this.label.textContent;
  }

  cancel() {
    clearTimeout(this.timer);
    this.control?.abort();
  }

  later() {
    this.cancel();
    this.showRange();
    this.timer = setTimeout(() => this.refresh(), WAIT);
  }

  async refresh() {
    if (!this.node.graph) return;
    this.control = new AbortController();
    const { signal } = this.control;
    if (isLinked(this.node, "video_input")) {
      this.clip = null;
      if (!this.player.sheets.length || !this.ran) this.player.showText(translate("fromInput"));
      this.showRange();
      return;
    }
    const video = this.value("video");
    if (!video) {
      this.clip = null;
      this.player.showText(translate("noVideo"));
      this.showRange();
      return;
    }
    this.ran = false;
    try {
      await this.load(String(video), signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.player.showText(error.message);
    }
  }

  async load(video, signal) {
    const rate = this.value("resample_fps") ?? 0;
    const name = `${video} ${rate}`;
    if (this.clip?.name !== name) {
      this.clip = null;
      this.player.showText(translate("loadingClip"));
      this.clip = { ...(await get("/clip", { video, resample_fps: rate }, signal)), name };
    }
    this.showRange();
    const inputs = Object.fromEntries(INPUTS.map((input) => [input, this.value(input) ?? 0]));
    const { picture, ...layout } = await get("/frames", inputs, signal);
    const sheet = await SpriteSheet.load(picture, layout);
    if (!signal.aborted) this.player.show([sheet]);
  }

  /** After a run the node shows what it really gave; needed where the page cannot know the clip. */
  async take(output) {
    if (!isLinked(this.node, "video_input")) return;
    const sheets = await loadSheets(output);
    if (!sheets.length) return;
    this.ran = true;
    this.player.show(sheets);
  }
}
