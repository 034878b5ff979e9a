/** Tune on One Video: the loss as it falls, how long it still takes, and stop-and-keep. */

import { app } from "../../../scripts/app.js";
import { duration, path, reach, scale, short, smooth, thin } from "./curve.js";
import { button, make, makeSvg } from "./elements.js";
import { listen } from "./live.js";
import { addPanel } from "./panel.js";
import { post } from "./server.js";
import { translate } from "./translations.js";

const HEIGHT = 208;
const LOG_PROPERTY = "loss_log_scale";
const EDGE = { left: 44, right: 8, top: 8, bottom: 16 };

/** Adds the panel. */
export function addLossPanel(node) {
  new LossPanel(node);
}

class LossPanel {
  constructor(node) {
    this.node = node;
    this.status = make("div", { class: "tav-line tav-strong" });
    this.detail = make("div", { class: "tav-line" });
    this.chart = makeSvg("svg", { class: "tav-chart" });
    this.log = make("input", { type: "checkbox", onchange: () => this.setLog(this.log.checked) });
    this.stop = button(translate("stopAndKeep"), translate("stopAndKeepHelp"), () => this.askToStop());
    this.resume = button(translate("continueTuning"), translate("continueHelp"), () => this.askToContinue());
    this.stop.dataset.action = "stop";
    this.resume.dataset.action = "continue";
    const toggle = make("label", { class: "tav-check" }, this.log, translate("logScale"));
    const element = addPanel(node, "loss_curve", HEIGHT);
    element.append(this.status, this.detail, this.chart, make("div", { class: "tav-row" }, toggle, this.stop, this.resume));
    new ResizeObserver(() => this.draw()).observe(this.chart);
    this.show(null);
    listen(node, { live: (state) => this.show(state) });
  }

  setLog(on) {
    this.node.setProperty ? this.node.setProperty(LOG_PROPERTY, on) : (this.node.properties[LOG_PROPERTY] = on);
    this.draw();
  }

  show(state) {
    this.state = state;
    const running = state?.status === "running";
    this.stop.hidden = !running || state.stopping;
    this.resume.hidden = !["stopped", "interrupted"].includes(state?.status);
    this.stop.disabled = this.resume.disabled = false;
    [this.status.textContent, this.detail.textContent] = state ? this.texts(state) : ["", translate("lossLater")];
    this.draw();
  }

  texts(state) {
    const { step = 0, steps = 0, steps_per_second: pace, seconds_left: left, memory, file, found } = state.data;
    const losses = state.series.losses ?? [];
    const made = translate("step", { step, steps });
    const last = losses.length ? translate("loss", { loss: short(smooth(losses, steps).at(-1)) }) : null;
    if (state.status === "running") {
      if (!step) return [translate("preparing"), ""];
      const first = state.stopping ? `${made} · ${translate("stopping")}` : made;
      const speed = pace && (pace >= 1 ? translate("pace", { pace: short(pace) }) : translate("slowPace", { pace: short(1 / pace) }));
      const time = left != null && translate("left", { time: duration(left) });
      return [first, [last, speed, time, memory].filter(Boolean).join(" · ")];
    }
    const ends = { done: "done", stopped: "stopped", interrupted: "interrupted", failed: "failedRun" };
    const how = found ? translate("found", { file }) : translate(ends[state.status] ?? "failedRun");
    const kept = !found && file && step && translate("saved", { file });
    return [found ? how : `${made} · ${how}`, [last, kept].filter(Boolean).join(" · ")];
  }

  draw() {
    this.log.checked = Boolean(this.node.properties?.[LOG_PROPERTY]);
    const { clientWidth: width, clientHeight: height } = this.chart;
    const losses = this.state?.series.losses ?? [];
    this.chart.replaceChildren();
    if (width < EDGE.left + EDGE.right + 10 || height < EDGE.top + EDGE.bottom + 10) return;
    this.chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const right = width - EDGE.right;
    const bottom = height - EDGE.bottom;
    const line = (y) => makeSvg("line", { class: "tav-grid", x1: EDGE.left, x2: right, y1: y, y2: y });
    this.chart.append(line(EDGE.top), line((EDGE.top + bottom) / 2), line(bottom));
    if (!losses.length) return;
    const planned = this.state.data.steps ?? losses.length;
    const steps = this.state.status === "running" ? reach(planned, losses.length) : Math.max(losses.length, 2);
    const values = scale(losses, this.log.checked);
    const place = ([i, value]) => [
      EDGE.left + ((right - EDGE.left) * i) / (steps - 1),
      bottom - (bottom - EDGE.top) * values.at(value),
    ];
    const columns = Math.max(50, Math.round(right - EDGE.left));
    const label = (x, y, text, anchor) =>
      makeSvg("text", { class: "tav-label", x, y, "text-anchor": anchor }, text);
    this.chart.append(
      label(EDGE.left - 4, EDGE.top + 4, short(values.high), "end"),
      label(EDGE.left - 4, bottom, short(values.low), "end"),
      label(EDGE.left, height - 3, "1", "start"),
      label(right, height - 3, String(steps), "end"),
      makeSvg("path", { class: "tav-raw", d: path(thin(losses, columns).map(place)) }),
      makeSvg("path", { class: "tav-smooth", d: path(thin(smooth(losses, planned), columns).map(place)) }),
    );
  }

  async askToStop() {
    const { workflow, prompt, node } = this.state;
    await this.ask(this.stop, () => post("/stop", { workflow, prompt, node }));
  }

  async askToContinue() {
    const { workflow, node } = this.state;
    await this.ask(this.resume, async () => {
      await post("/continue", { workflow, node });
      await app.queuePrompt(0, 1);
    });
  }

  async ask(control, action) {
    control.disabled = true;
    try {
      await action();
    } catch (error) {
      this.detail.textContent = error.message;
      control.disabled = false;
    }
  }
}
