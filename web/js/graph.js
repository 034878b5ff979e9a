/** Finding nodes: the server names a node inside subgraphs by its way there, as in 12:5. */

import { app } from "../../../scripts/app.js";

const root = () => app.rootGraph ?? app.graph;

/** The id of the open workflow. */
export const workflowId = () => String(root()?.id ?? "");

/** The node that the server calls `id`, undefined if the open workflow has none. */
export function nodeById(id) {
  let graph = root();
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(/^\d+$/.test(part) ? Number(part) : part);
    graph = node?.subgraph;
  }
  return node ?? undefined;
}
