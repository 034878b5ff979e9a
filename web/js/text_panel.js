/** Nodes that answer in words: their text, on the node. */

import { make } from "./elements.js";
import { listen } from "./live.js";
import { addPanel } from "./panel.js";
import { translate } from "./translations.js";

/** Adds the panel; height in pixels. */
export function addTextPanel(node, height) {
  const text = make("div", { class: "tav-text tav-faint" }, translate("textLater"));
  addPanel(node, "result_text", height).append(text);
  const show = (output) => {
    const lines = output?.text;
    if (!lines?.length) return;
    text.classList.remove("tav-faint");
    text.textContent = lines.join("\n");
  };
  listen(node, { output: show });
}
