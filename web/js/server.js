/** Asking our routes. What goes wrong comes back as a plain sentence. */

import { api } from "../../../scripts/api.js";
import { translate } from "./translations.js";

const PREFIX = "/tune_a_video";

/** A failed request; its message can be shown as it is. */
export class ServerError extends Error {}

async function ask(path, options) {
  let response;
  try {
    response = await api.fetchApi(PREFIX + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(translate("failed", { reason: error.message }));
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  // A server without our routes answers with a page, not with JSON.
  throw new ServerError(body?.error ?? translate("noServer"));
}

/** GET with query values; `signal` aborts it. */
export const get = (path, values, signal) => ask(`${path}?${new URLSearchParams(values)}`, { signal });

/** POST of a JSON object. */
export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** The address of a node's live picture. */
export const pictureUrl = (state) =>
  api.apiURL(
    `${PREFIX}/picture?${new URLSearchParams({
      workflow: state.workflow,
      node: state.node,
      number: `${state.prompt}-${state.sheet.number}`,
    })}`,
  );
