/** DDIM Inversion and Sample Edited Video: the clip as the sampler sees it, moving. */

import { make } from "./elements.js";
import { listen } from "./live.js";
import { addPanel } from "./panel.js";
import { Player } from "./player.js";
import { pictureUrl } from "./server.js";
import { SpriteSheet } from "./sprite_sheet.js";
import { translate } from "./translations.js";

const HEIGHT = 200;

/** Adds the panel. */
export function addLatentPanel(node) {
  const player = new Player(translate("previewLater"));
  const status = make("div", { class: "tav-line" });
  addPanel(node, "moving_preview", HEIGHT).append(player.element, status);
  let shown = "";
  listen(node, {
    live: async (state) => {
      const { step, steps } = state.data;
      const ends = { done: "done", interrupted: "interrupted", failed: "failedRun" };
      const end = ends[state.status] && translate(ends[state.status]);
      status.textContent = [step && translate("step", { step, steps }), end].filter(Boolean).join(" · ");
      const name = state.sheet && `${state.prompt}-${state.sheet.number}`;
      if (!name || name === shown) return;
      shown = name;
      // A missing picture does not matter: the next one comes with a later step.
      const sheet = await SpriteSheet.load(pictureUrl(state), state.sheet).catch(() => null);
      if (sheet && name === shown) player.show([sheet]);
    },
  });
}
