/** Clips as sprite sheets: the frames of one clip in rows on one picture, ready to be drawn. */

import { api } from "../../../scripts/api.js";

const OUTPUT_KEY = "tune_a_video";

export class SpriteSheet {
  constructor(picture, layout, caption = "") {
    Object.assign(this, { picture, layout, caption });
  }

  /** Loads a sheet from an address; rejects if it cannot be shown. */
  static async load(address, layout, caption) {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    return new SpriteSheet(picture, layout, caption);
  }

  /** Draws frame `number` into a rectangle; `part` shows only that much of it from the left, 0..1. */
  draw(context, number, [x, y, width, height], part = 1) {
    const { columns, frames, width: w, height: h } = this.layout;
    const index = Math.min(number, frames - 1);
    const source = [(index % columns) * w, Math.floor(index / columns) * h];
    if (part > 0) context.drawImage(this.picture, ...source, w * part, h, x, y, width * part, height);
  }
}

/** A text that tells the sheets of one output of a node from those of another; empty without any. */
export const sheetsKey = (output) => (output?.[OUTPUT_KEY] ?? []).join("\n");

/** The sheets in a node's output; an empty list if it has none or they are gone from the temp folder. */
export async function loadSheets(output) {
  const clips = (output?.[OUTPUT_KEY] ?? []).map((text) => JSON.parse(text));
  const load = ({ filename, subfolder, type, caption, ...layout }) =>
    SpriteSheet.load(api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`), layout, caption);
  return Promise.all(clips.map(load)).catch(() => []);
}
