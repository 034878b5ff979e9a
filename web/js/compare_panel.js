/** Compare Videos: source and edits in step, next to each other or under a wipe. */

import { make } from "./dom.js";
import { listen } from "./live.js";
import { nameOf, reelsOf } from "./outputs.js";
import { addPanel, after } from "./panel.js";
import { Player } from "./player.js";
import { say } from "./words.js";

const HEIGHT = 248;
const RATES = [2, 4, 8, 12, 16, 24, 30];

/** Adds the panel. */
export function addComparePanel(node) {
  new ComparePanel(node);
}

class ComparePanel {
  constructor(node) {
    this.node = node;
    this.reels = [];
    this.shown = "";
    this.player = new Player(say("compareLater"));
    this.mode = this.select("compare_view", { side: say("sideBySide"), wipe: say("wipe") });
    this.edit = make("select", { class: "tav-select", title: say("shownEdit"), onchange: () => this.arrange() });
    this.rate = this.select("compare_fps", Object.fromEntries(RATES.map((fps) => [fps, say("fps", { fps })])), "8");
    this.bar = make("div", { class: "tav-row" }, this.mode, this.edit, this.rate);
    addPanel(node, "comparison", HEIGHT).append(this.player.element, this.bar);
    this.arrange();
    const take = (output) => this.take(output);
    after(node, "onExecuted", take);
    after(node, "onConfigure", () => this.restoreChoices());
    listen(node, { output: take });
  }

  /** A choice that is saved with the node. */
  select(property, options, initial = Object.keys(options)[0]) {
    const element = make(
      "select",
      { class: "tav-select", onchange: () => (this.node.setProperty(property, element.value), this.arrange()) },
      ...Object.entries(options).map(([value, text]) => make("option", { value }, text)),
    );
    element.value = String(this.node.properties?.[property] ?? initial);
    element.dataset.property = property;
    return element;
  }

  restoreChoices() {
    for (const choice of [this.mode, this.rate]) {
      const value = this.node.properties?.[choice.dataset.property];
      if (value !== undefined) choice.value = String(value);
    }
    this.arrange();
  }

  async take(output) {
    // The window that queued a run hears of its clips twice.
    const name = nameOf(output);
    if (!name || name === this.shown) return;
    this.shown = name;
    const reels = await reelsOf(output);
    if (name !== this.shown) return;
    if (!reels.length) {
      this.shown = "";
      return;
    }
    this.reels = reels;
    const names = reels.slice(1).map((reel, i) => make("option", { value: i + 1 }, reel.caption || String(i + 1)));
    this.edit.replaceChildren(...names);
    this.arrange();
  }

  arrange() {
    const wiping = this.mode.value === "wipe";
    this.bar.hidden = this.reels.length === 0;
    this.edit.hidden = !wiping || this.reels.length < 3;
    this.player.canvas.title = wiping ? say("wipeHelp") : "";
    if (!this.reels.length) return;
    const chosen = this.reels[Number(this.edit.value || 1)] ?? this.reels[1];
    this.player.show(wiping ? [this.reels[0], chosen].filter(Boolean) : this.reels, Number(this.rate.value));
    this.player.setWipe(wiping ? (this.player.wipe ?? 0.5) : null);
  }
}
