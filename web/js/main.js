/** What Tune-A-Video adds to ComfyUI's page: one panel per kind of node. */

import { app } from "../../../scripts/app.js";
import { addClipPanel } from "./clip_panel.js";
import { addComparePanel } from "./compare_panel.js";
import { addLatentPanel } from "./latent_panel.js";
import { restore } from "./live.js";
import { addLossPanel } from "./loss_panel.js";
import { addSchedulePanel } from "./schedule_panel.js";
import { addTextPanel } from "./text_panel.js";

const REPORT = 96;
const SENTENCE = 40;

const PANELS = {
  TAVTune: addLossPanel,
  TAVLoadVideo: addClipPanel,
  TAVDDIMInversion: addLatentPanel,
  TAVSample: addLatentPanel,
  TAVCompareVideos: addComparePanel,
  TAVPromptSchedule: addSchedulePanel,
  TAVEvaluate: (node) => addTextPanel(node, REPORT),
  TAVReconstruction: (node) => addTextPanel(node, REPORT),
  TAVSaveWeights: (node) => addTextPanel(node, SENTENCE),
  TAVSaveOfficial: (node) => addTextPanel(node, SENTENCE),
  TAVSaveQueryLora: (node) => addTextPanel(node, SENTENCE),
};

/** Puts the panels' style sheet into the page. Its colours are ComfyUI's own, so that it follows every theme. */
function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../css/panels.css", import.meta.url).href;
  document.head.append(link);
}

app.registerExtension({
  name: "TuneAVideo.Panels",

  setup: addStyle,

  nodeCreated(node) {
    PANELS[node.comfyClass]?.(node);
  },

  async afterConfigureGraph() {
    await restore();
  },
});
