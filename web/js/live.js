/** The states and outputs of nodes: as the server reports them, and again when a page or a workflow is opened. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { after } from "./panel.js";
import { get } from "./server.js";

const EVENT = "tune_a_video.live";
// How many finished runs are looked through: when a workflow is opened, and when one run more has ended.
const HISTORY = 16;
const LATEST = 4;
const panels = new WeakMap();
// Not known before the server tells it the first time.
let queued = Infinity;

/**
 * Registers a panel for the news of its node.
 *
 * listener.live(state): a state with whole series; listener.output(ui): the node's ui output after a run.
 */
export function listen(node, listener) {
  panels.set(node, listener);
  // Where this window queued the run; for others' runs see `restoreOutputs`.
  if (listener.output) after(node, "onExecuted", listener.output);
}

// When this file is loaded: the front end takes a message without a listener for an error.
api.addEventListener(EVENT, ({ detail }) => take(detail));
api.addEventListener("reconnected", restore);
api.addEventListener("status", ({ detail }) => count(detail?.exec_info?.queue_remaining ?? 0));

const warn = (error) => console.warn("Tune-A-Video:", error.message);

const rootGraph = () => app.rootGraph ?? app.graph;

/** The id of the open workflow. */
const workflowId = () => String(rootGraph()?.id ?? "");

/** The node that the server calls `id`, such as 12:5 for node 5 in subgraph 12; undefined if there is none. */
function nodeById(id) {
  let graph = rootGraph();
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(/^\d+$/.test(part) ? Number(part) : part);
    graph = node?.subgraph;
  }
  return node ?? undefined;
}

/** What a run showed is sent only to the window that queued it; the others learn that one has ended, and ask. */
function count(remaining) {
  const workflow = workflowId();
  if (remaining < queued && workflow) restoreOutputs(workflow, LATEST).catch(warn);
  queued = remaining;
}

/** Shows again what is known of the open workflow's nodes. */
export async function restore() {
  const workflow = workflowId();
  if (!workflow) return;
  await Promise.all([restoreLive(workflow), restoreOutputs(workflow, HISTORY)].map((part) => part.catch(warn)));
}

async function restoreLive(workflow) {
  for (const state of await get("/live", { workflow })) take(state);
}

/** The latest results of this workflow's nodes, from ComfyUI's history. */
async function restoreOutputs(workflow, runs) {
  const response = await api.fetchApi(`/history?max_items=${runs}`);
  if (!response.ok) return;
  const outputs = {};
  for (const run of Object.values(await response.json())) {
    if (run.prompt?.[3]?.extra_pnginfo?.workflow?.id === workflow) Object.assign(outputs, run.outputs);
  }
  // Another workflow may have been opened while we waited; its nodes have the same numbers.
  if (workflow !== workflowId()) return;
  for (const [id, output] of Object.entries(outputs)) {
    const node = nodeById(id);
    if (node) panels.get(node)?.output?.(output);
  }
}

function take(state) {
  if (state.workflow !== workflowId()) return;
  const node = nodeById(state.node);
  const panel = node && panels.get(node);
  if (!panel?.live) return;
  const joined = join(panel.state, state);
  if (joined === null) {
    // Events were missed; the whole state is one request away.
    restoreLive(state.workflow).catch(warn);
    return;
  }
  panel.state = joined;
  panel.live(joined);
}

/** The new state with whole series; null if something between the known and the new values is missing. */
function join(known, state) {
  const series = {};
  const earlier = known?.prompt === state.prompt ? known.series : {};
  for (const [name, part] of Object.entries({ ...keep(earlier), ...state.series })) {
    const before = earlier[name] ?? [];
    if (part.from > before.length) return null;
    series[name] = [...before.slice(0, part.from), ...part.values];
  }
  return { ...state, series };
}

const keep = (series) =>
  Object.fromEntries(Object.entries(series).map(([name, values]) => [name, { from: values.length, values: [] }]));
