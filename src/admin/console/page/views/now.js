// The state of things: figures and plots of this gateway from its metrics, and the accounts.

import { fill, h, link } from "../elements.js";
import { clockTime, count, figure, percent, seconds } from "../figures.js";
import { plot } from "../plot.js";
import { ago, growth, last, quantile, rate, samples, watch } from "../samples.js";
import { get } from "../session.js";
import { table } from "../table.js";
import { problemText } from "../dialog.js";
import { t } from "../words.js";

const READING = 4_000;

export const title = () => t("view.now");

export function show(body, { signal }) {
  const [tiles, plots, models, refusals, accounts] = ["tiles ten", "plots", "", "", ""].map((kind) => h("div", { class: kind }));
  fill(body, tiles, plots,
    h("section", {}, h("h2", {}, t("now.accounts")), accounts),
    h("section", {}, h("h2", {}, t("now.models")), models),
    h("section", {}, h("h2", {}, t("now.refusals")), refusals));
  // A plot under the pointer is being read, and stays for a while.
  let pointed = 0;
  plots.addEventListener("pointermove", () => (pointed = Date.now()));
  const renew = () => {
    const sample = last();
    if (sample === undefined) return;
    fill(tiles, sample.gap ? h("p", { class: "bad" }, t("problem.unreachable")) : figures(sample));
    if (Date.now() - pointed > READING) fill(plots, drawn());
    if (!sample.gap) {
      fill(models, modelTable(sample));
      fill(refusals, refusalTable(sample));
    }
  };
  const ask = async () => {
    try {
      const { accounts: all } = await get("/admin/accounts", { limit: 1000 }, signal);
      fill(accounts, accountTable(all));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(accounts, h("p", { class: "bad" }, problemText(problem)));
    }
  };
  watch(() => { renew(); ask(); }, signal);
  renew();
  ask();
}

function figures(sample) {
  const minute = ago(60);
  const minutes = ago(300);
  const all = growth(minutes, sample, "requests");
  const failed = growth(minutes, sample, "requests", ["failed"]) / all;
  const tile = (name, value, kind = "", note = "") =>
    h("div", { class: `tile ${kind}` }, h("span", { class: "name" }, name), h("b", {}, value), h("span", { class: "note" }, note));
  const sum = (values) => Object.values(values).reduce((one, other) => one + other, 0);
  const up = sample.store.all !== 0;
  const replicas = sample.replicas.all ?? 1;
  const [version, commit] = JSON.parse(Object.keys(sample.build)[0] ?? '["",""]');
  return [
    tile(t("now.requests"), `${figure(rate(minute, sample, "requests"))} /s`, "", t("now.in_flight", { number: count(sample.running.all ?? 0) })),
    tile(t("now.failed"), percent(failed), failed > 0.05 ? "bad" : failed > 0.01 ? "warn" : "", t("now.five_minutes")),
    tile(t("now.refused"), `${figure(rate(minute, sample, "refused"))} /s`),
    tile(t("now.tasks"), count(sum(sample.tasks)), "", t("now.pending", { number: count(sample.tasks.pending ?? 0) })),
    tile(t("now.lag"), seconds(quantile(minutes, sample, "lag", 0.5)), "", `p99 ${seconds(quantile(minutes, sample, "lag", 0.99))}`),
    tile(t("now.overhead"), seconds(quantile(minutes, sample, "overhead", 0.5)), "", `p99 ${seconds(quantile(minutes, sample, "overhead", 0.99))}`),
    tile(t("now.orphans"), link(count(sum(sample.orphans)), "orphans"), sum(sample.orphans) > 0 ? "warn" : ""),
    tile(t("now.store"), up ? t("now.store_up") : t("now.store_down"), up ? "" : "bad", `p99 ${seconds(quantile(minutes, sample, "commit", 0.99))}`),
    tile(t("now.replicas"), count(replicas), "", t("now.own_numbers")),
    tile(t("now.version"), version, "", commit),
  ];
}

function drawn() {
  const all = samples();
  // Each point is the growth over half a minute, so that a single request is no peak.
  const wide = 6;
  const pairs = all.map((sample, at) => [all[Math.max(0, at - wide)], sample]).slice(1);
  const labels = pairs.map(([, { at }]) => clockTime(at));
  const lines = (name, keys) => keys.map(([key, shown]) => ({
    name: shown, values: pairs.map(([from, to]) => rate(from, to, name, [key])),
  }));
  const gauges = (name, keys) => keys.map(([key, shown]) => ({
    name: shown, values: pairs.map(([, to]) => (to.gap ? undefined : to[name][key] ?? 0)),
  }));
  const quantiles = (name) => [0.5, 0.99].map((share) => ({
    name: `p${100 * share}`, values: pairs.map(([from, to]) => quantile(from, to, name, share)),
  }));
  const ends = (status) => pairs.map(([from, to]) => {
    const keys = to.gap ? [] : Object.keys(to.ended).filter((key) => JSON.parse(key)[1] === status);
    const ended = rate(from, to, "ended", keys);
    return ended === undefined ? undefined : 60 * ended;
  });
  const hasEnds = Object.keys(last()?.ended ?? {}).length > 0;
  return [
    plot({ title: t("plot.requests"), note: t("plot.per_second"), labels,
      series: lines("requests", [["answered", t("plot.answered")], ["refused", t("plot.refused")], ["failed", t("plot.failed")]]) }),
    hasEnds && plot({ title: t("plot.ends"), note: t("plot.per_minute"), labels,
      series: ["SUCCEEDED", "FAILED", "CANCELED"].map((status) => ({ name: status, values: ends(status) })) }),
    plot({ title: t("plot.tasks"), labels, show: count, series: gauges("tasks", [["running", t("plot.running")], ["pending", t("plot.pending")]]) }),
    plot({ title: t("plot.lag"), labels, show: seconds, series: quantiles("lag") }),
    plot({ title: t("plot.polls"), note: t("plot.per_second"), labels,
      series: lines("polls", [["cache", t("plot.cache")], ["upstream", t("plot.upstream")], ["stale", t("plot.stale")]]) }),
    plot({ title: t("plot.overhead"), labels, show: seconds, series: quantiles("overhead") }),
  ];
}

function modelTable(sample) {
  const from = samples().find((one) => !one.gap);
  const rows = new Map();
  for (const [key, total] of Object.entries(sample.ended)) {
    const [model, status, code] = JSON.parse(key);
    const ended = total - (from.ended[key] ?? 0);
    if (ended <= 0) continue;
    const row = rows.get(model) ?? { model, SUCCEEDED: 0, FAILED: 0, other: 0, codes: {} };
    row[status in row ? status : "other"] += ended;
    if (status === "FAILED" && code) row.codes[code] = (row.codes[code] ?? 0) + ended;
    rows.set(model, row);
  }
  const share = (row) => row.FAILED / (row.SUCCEEDED + row.FAILED);
  const sorted = [...rows.values()].sort((one, other) => (share(other) || 0) - (share(one) || 0));
  return table({
    caption: t("now.models"), rows: sorted, empty: t("now.no_ends"),
    columns: [
      { name: t("column.model"), cell: ({ model }) => link(model, "tasks", undefined, { model: model === "other" ? "" : model }) },
      { name: t("column.succeeded"), kind: "number", cell: (row) => count(row.SUCCEEDED) },
      { name: t("column.failed"), kind: "number", cell: (row) => count(row.FAILED) },
      { name: t("column.share"), kind: "number", cell: (row) => h("span", { class: share(row) > 0.2 ? "bad" : "" }, percent(share(row))) },
      { name: t("column.codes"), cell: ({ codes }) =>
        Object.entries(codes).sort((one, other) => other[1] - one[1]).map(([code, number]) => `${code} ${count(number)}`).join(", ") || "–" },
    ],
  });
}

function refusalTable(sample) {
  const from = samples().find((one) => !one.gap);
  const rows = Object.entries(sample.refused).map(([reason, total]) => ({ reason, total: total - (from.refused[reason] ?? 0) }));
  const sorted = rows.filter(({ total }) => total > 0).sort((one, other) => other.total - one.total);
  return table({
    caption: t("now.refusals"), rows: sorted, empty: t("now.no_refusals"),
    columns: [
      { name: t("column.reason"), cell: ({ reason }) => h("code", {}, reason) },
      { name: t("column.number"), kind: "number", cell: ({ total }) => count(total) },
    ],
  });
}

function accountTable(accounts) {
  const sample = last();
  const from = ago(300);
  const throttled = (name) => growth(from, sample, "throttled", [name]);
  const faults = (name) => {
    const failed = growth(from, sample, "upstream", [JSON.stringify([name, true])]);
    return failed / (failed + growth(from, sample, "upstream", [JSON.stringify([name, false])]));
  };
  return table({
    caption: t("now.accounts"), rows: accounts,
    columns: [
      { name: t("column.account"), cell: ({ name }) => name },
      { name: t("column.state"), cell: (account) => health(account) },
      { name: t("column.host"), cell: ({ host }) => host },
      { name: t("column.throttled"), kind: "number", cell: ({ name }) => figure(throttled(name)) },
      { name: t("column.upstream_failed"), kind: "number", cell: ({ name }) => percent(faults(name)) },
      { name: t("column.leader"), cell: ({ name }) => (sample?.leader?.[name] ? t("now.leads") : t("now.follows")) },
      { name: t("column.orphans"), kind: "number", cell: ({ name }) => count(sample?.orphans?.[name] ?? 0) },
    ],
  });
}

/** Parts of an account that rest, and for how long. */
function health({ resting, keys, models }) {
  const rest = (what, { cause, seconds_left }) =>
    h("div", { class: "bad" }, t("now.rests", { what, cause, time: seconds(seconds_left) }));
  const parts = [
    resting && rest(t("now.account"), resting),
    ...keys.filter((key) => key.resting).map((key) => rest(t("now.key", { number: key.key }), key.resting)),
    ...models.filter((model) => model.resting).map((model) => rest(model.model, model.resting)),
  ].filter(Boolean);
  return parts.length > 0 ? parts : h("span", { class: "good" }, t("now.well"));
}
