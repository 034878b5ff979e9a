/** Prompt Schedule: the prompts along the clip. */

import { make } from "./elements.js";
import { addPanel, after, isLinked, onWidgets, widgetOf } from "./panel.js";
import { parseSchedule, stretches } from "./schedule.js";
import { translate } from "./translations.js";

const HEIGHT = 60;
const COLOURS = 6;

/** Adds the panel. */
export function addSchedulePanel(node) {
  const line = make("div", { class: "tav-timeline" });
  const note = make("div", { class: "tav-line" });
  addPanel(node, "timeline", HEIGHT, { fixed: true }).append(line, note);

  const draw = () => {
    const { keys, problem } = parseSchedule(widgetOf(node, "prompts")?.value);
    const latest = keys.at(-1)?.frame ?? 0;
    // A connected number is only known when the graph runs; then the line ends a little after the last key.
    const linked = isLinked(node, "frame_count");
    const frames = linked ? Math.max(2, Math.round(latest * 1.25) + 1) : Number(widgetOf(node, "frame_count")?.value ?? 1);
    const blend = Boolean(widgetOf(node, "blend")?.value);
    line.hidden = Boolean(problem);
    line.replaceChildren(...stretches(keys, frames, blend).map((part, i) => segment(part, i, frames)));
    note.classList.toggle("tav-problem", Boolean(problem) || latest >= frames);
    if (problem) note.textContent = translate(...problem);
    else if (latest >= frames) note.textContent = translate("scheduleBeyond", { frame: latest, last: frames - 1 });
    else note.textContent = keys.map((key) => key.frame).join(" · ") + (linked ? "" : ` / ${frames - 1}`);
    note.title = note.textContent;
  };

  onWidgets(node, ["prompts", "frame_count", "blend"], draw);
  after(node, "onConnectionsChange", draw);
  // A text box tells of typing by its element, not by its widget.
  const box = widgetOf(node, "prompts");
  (box?.inputEl ?? box?.element)?.addEventListener("input", draw);
  draw();
}

function segment({ from, to, text, next, frame }, index, frames) {
  const element = make("div", { class: "tav-key", title: translate("keyAt", { frame, text }) }, make("span", {}, text));
  element.style.width = `${(100 * (to - from)) / frames}%`;
  element.style.setProperty("--tav-from", `var(--tav-key-${index % COLOURS})`);
  element.style.setProperty("--tav-to", `var(--tav-key-${(index + (next === null ? 0 : 1)) % COLOURS})`);
  return element;
}
