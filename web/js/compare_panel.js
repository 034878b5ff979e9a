/** Compare Videos: source and edits in step, next to each other or under a wipe. */

import { make } from "./elements.js";
import { listen } from "./live.js";
import { addPanel, after } from "./panel.js";
import { Player } from "./player.js";
import { loadSheets, sheetsKey } from "./sprite_sheet.js";
import { translate } from "./translations.js";

const HEIGHT = 248;
const RATES = [2, 4, 8, 12, 16, 24, 30];

/** Adds the panel. */
export function addComparePanel(node) {
  new ComparePanel(node);
}

class ComparePanel {
  constructor(node) {
    this.node = node;
    this.sheets = [];
    this.shown = "";
    this.player = new Player(translate("compareLater"));
    this.mode = this.select("compare_view", { side: translate("sideBySide"), wipe: translate("wipe") });
    this.edit = make("select", { class: "tav-select", title: translate("shownEdit"), onchange: () => this.arrange() });
    this.rate = this.select("compare_fps", Object.fromEntries(RATES.map((fps) => [fps, translate("fps", { fps })])), "8");
    this.bar = make("div", { class: "tav-row" }, this.mode, this.edit, this.rate);
    addPanel(node, "comparison", HEIGHT).append(this.player.element, this.bar);
    this.arrange();
    after(node, "onConfigure", () => this.restoreChoices());
    listen(node, { output: (output) => this.take(output) });
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
    // The window that queued a run gets its output twice.
    const key = sheetsKey(output);
    if (!key || key === this.shown) return;
    this.shown = key;
    const sheets = await loadSheets(output);
    if (key !== this.shown) return;
    if (!sheets.length) {
      this.shown = "";
      return;
    }
    this.sheets = sheets;
    const names = sheets.slice(1).map((sheet, i) => make("option", { value: i + 1 }, sheet.caption || String(i + 1)));
    this.edit.replaceChildren(...names);
    this.arrange();
  }

  arrange() {
    const wiping = this.mode.value === "wipe";
    this.bar.hidden = this.sheets.length === 0;
    this.edit.hidden = !wiping || this.sheets.length < 3;
    this.player.canvas.title = wiping ? translate("wipeHelp") : "";
    if (!this.sheets.length) return;
    const chosen = this.sheets[Number(this.edit.value || 1)] ?? this.sheets[1];
    this.player.show(wiping ? [this.sheets[0], chosen].filter(Boolean) : this.sheets, Number(this.rate.value));
    this.player.setWipe(wiping ? (this.player.wipe ?? 0.5) : null);
  }
}
