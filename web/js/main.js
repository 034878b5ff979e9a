/** What Tune-A-Video adds to ComfyUI's page: one panel per kind of node. */

import { app } from "../../../scripts/app.js";
import { addClipPanel } from "./clip_panel.js";
import { addComparePanel } from "./compare_panel.js";
import { dropLivePictures, hideCorePreview } from "./core_preview.js";
import { addLatentPanel } from "./latent_panel.js";
import { restore, startLive } from "./live.js";
import { addLossPanel } from "./loss_panel.js";
import { addSchedulePanel } from "./schedule_panel.js";
import { addStyle } from "./style.js";
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
const SHOWS_PICTURES = ["TAVTune", "TAVLoadVideo", "TAVDDIMInversion", "TAVSample"];

app.registerExtension({
  name: "TuneAVideo.Panels",

  setup() {
    addStyle();
    startLive();
    dropLivePictures((node) => SHOWS_PICTURES.includes(node.comfyClass));
  },

  nodeCreated(node) {
    const add = PANELS[node.comfyClass];
    if (!add) return;
    if (SHOWS_PICTURES.includes(node.comfyClass)) hideCorePreview(node);
    add(node);
  },

  async afterConfigureGraph() {
    await restore();
  },
});
