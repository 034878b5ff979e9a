/** Keeps ComfyUI's own pictures off nodes that show them better themselves. Only on the nodes given here. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeById } from "./graph.js";

/** No picture or video of ComfyUI's own on this node, with either renderer. */
export function hideCorePreview(node) {
  // Nodes 2.0 asks for this.
  node.hideOutputImages = true;
  // The canvas renderer makes its preview while it draws the background, and not while it believes one to load.
  node.isLoading = true;
  node.onDrawBackground = () => {};
}

/** Takes the live pictures of nodes for which `isOurs(node)` holds out of ComfyUI's list as they come. */
export function dropLivePictures(isOurs) {
  api.addEventListener("b_preview_with_metadata", ({ detail }) => {
    const node = nodeById(detail.displayNodeId ?? detail.nodeId ?? "");
    if (node && isOurs(node)) delete app.nodePreviewImages?.[locator(node)];
  });
}

/** ComfyUI's own name of a node in its lists: the id, inside a subgraph with the subgraph's before it. */
function locator(node) {
  const graph = node.graph;
  return !graph || graph.isRootGraph !== false ? String(node.id) : `${graph.id}:${node.id}`;
}
