/** The clips that a node put into its ui for our players. */

import { api } from "../../../scripts/api.js";
import { Reel } from "./reel.js";

const KEY = "tune_a_video";

/** A text that tells the clips of one output from those of another; empty without any. */
export const nameOf = (output) => (output?.[KEY] ?? []).join("\n");

/** The reels of a node's output; an empty list if it has none or they are gone from the temp folder. */
export async function reelsOf(output) {
  const clips = (output?.[KEY] ?? []).map((text) => JSON.parse(text));
  const load = ({ filename, subfolder, type, caption, ...layout }) =>
    Reel.load(api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`), layout, caption);
  return Promise.all(clips.map(load)).catch(() => []);
}
