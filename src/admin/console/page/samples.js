// Samples of /metrics, taken every few seconds while someone is signed in. Each keeps a few sums, so an hour is small.

import { text } from "./session.js";

const PERIOD = 5_000;
const MOST = 720;

const SUMS = {
  requests: ["dashgate_requests_total", ({ outcome, code }) => result(outcome, code)],
  refused: ["dashgate_rejections_total", ({ reason }) => reason],
  ended: ["dashgate_tasks_ended_total", ({ model, status, code }) => JSON.stringify([model, status, code ?? ""])],
  polls: ["dashgate_polls_total", ({ served }) => served],
  tasks: ["dashgate_tasks", ({ state }) => state],
  throttled: ["dashgate_upstream_throttled_total", ({ account }) => account],
  upstream: ["dashgate_upstream_requests_total", ({ account, code }) => JSON.stringify([account, isFault(code)])],
  running: ["dashgate_requests_in_flight", () => "all"],
  lag: ["dashgate_completion_lag_seconds_bucket", ({ le }) => le],
  overhead: ["dashgate_overhead_seconds_bucket", ({ le }) => le],
  commit: ["dashgate_store_commit_seconds_bucket", ({ le }) => le],
  orphans: ["dashgate_orphans", ({ account }) => account],
  leader: ["dashgate_leader", ({ account }) => account],
  replicas: ["dashgate_replicas", () => "all"],
  store: ["dashgate_store_up", () => "all"],
  reloads: ["dashgate_config_reloads_total", ({ result }) => result],
  skew: ["dashgate_clock_skew_seconds", ({ account }) => account ?? "all"],
  build: ["dashgate_build_info", ({ version, commit }) => JSON.stringify([version, commit])],
  started: ["process_start_time_seconds", () => "all"],
};

const wanted = new Map(Object.entries(SUMS).map(([name, [family, group]]) => [family, [name, group]]));
const taken = [];
const listeners = new Set();
let timer = null;

export const samples = () => taken;
export const last = () => taken.at(-1);

/** Calls `listener` after each sample, until the signal aborts. */
export function watch(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

export function start() {
  stop();
  take();
  timer = setInterval(take, PERIOD);
}

export function stop() {
  clearInterval(timer);
  taken.length = 0;
}

async function take() {
  let sample;
  try {
    sample = read(await text("/metrics"));
  } catch {
    sample = { at: Date.now(), gap: true };
  }
  if (last()?.started?.all !== undefined && sample.started?.all !== last().started.all && !sample.gap) taken.length = 0;
  taken.push(sample);
  if (taken.length > MOST) taken.shift();
  listeners.forEach((listener) => listener());
}

function result(outcome, code) {
  if (outcome === "rejected" && !code.startsWith("5")) return "refused";
  return outcome === "cut" || isFault(code) ? "failed" : "answered";
}

const isFault = (code) => code.startsWith("5") || code === "none" || code === "429";

/** Sums of a page in Prometheus' text format. */
export function read(page) {
  const sample = { at: Date.now() };
  Object.keys(SUMS).forEach((name) => (sample[name] = {}));
  for (const line of page.split("\n")) {
    const end = line.search(/[{ ]/);
    const found = end > 0 && wanted.get(line.slice(0, end));
    if (!found) continue;
    const space = line.lastIndexOf(" ");
    const key = found[1](labels(line.slice(end, space)));
    const sums = sample[found[0]];
    sums[key] = (sums[key] ?? 0) + Number(line.slice(space + 1));
  }
  return sample;
}

function labels(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
    found[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
  }
  return found;
}

/** Growth of a sum between two samples; undefined where one is missing. */
export function growth(from, to, name, keys) {
  if (!from || !to || from.gap || to.gap) return undefined;
  const sum = (sample) => (keys ?? Object.keys(to[name])).reduce((all, key) => all + (sample[name][key] ?? 0), 0);
  return sum(to) - sum(from);
}

/** Growth for each second. */
export function rate(from, to, name, keys) {
  const grown = growth(from, to, name, keys);
  return grown === undefined ? undefined : grown / Math.max(0.001, (to.at - from.at) / 1000);
}

/** A quantile of what a histogram took between two samples, in seconds; undefined if that was nothing. */
export function quantile(from, to, name, share) {
  if (!from || !to || from.gap || to.gap) return undefined;
  const bound = (le) => (le === "+Inf" ? Infinity : Number(le));
  const bounds = Object.keys(to[name]).sort((one, other) => bound(one) - bound(other));
  const counts = bounds.map((le) => to[name][le] - (from[name][le] ?? 0));
  const total = counts.at(-1);
  if (!total) return undefined;
  const at = counts.findIndex((counted) => counted >= share * total);
  const [low, high] = [at > 0 ? bound(bounds[at - 1]) : 0, bound(bounds[at])];
  if (high === Infinity) return low;
  const before = at > 0 ? counts[at - 1] : 0;
  return low + (high - low) * ((share * total - before) / Math.max(1, counts[at] - before));
}

/** The sample of about `seconds` ago, or the oldest. */
export function ago(seconds) {
  const since = Date.now() - 1000 * seconds;
  return taken.find((sample) => !sample.gap && sample.at >= since) ?? taken.find((sample) => !sample.gap);
}
