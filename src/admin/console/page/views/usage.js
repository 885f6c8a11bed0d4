// Usage and spend: sums of the ledger by day, tenant, model or key, plotted, and as CSV.

import { button, fill, h, place, save } from "../elements.js";
import { count, figure, money, units } from "../figures.js";
import { field, problemText, values } from "../dialog.js";
import { plot, COLORS } from "../plot.js";
import { get, text } from "../session.js";
import { pages, table } from "../table.js";
import { entryTable } from "./entries.js";
import { t } from "../words.js";

const USAGE = "/admin/usage";
const GROUPS = ["tenant", "model", "key", "account", "class", "day", "month"];
const MOST_ROWS = 500;

export const title = () => t("view.usage");

export function show(body, { query, signal }) {
  const given = (name) => query.get(name) ?? "";
  const narrowed = { from: given("from"), to: given("to"), tenant: given("tenant"), key: given("key"), model: given("model") };
  const by = given("by") || (narrowed.tenant ? "model" : "tenant");
  const form = h("form", { class: "filters" },
    field({ name: "from", label: t("list.from"), type: "date", value: narrowed.from }),
    field({ name: "to", label: t("list.to_before"), type: "date", value: narrowed.to }),
    field({ name: "tenant", label: t("column.tenant"), value: narrowed.tenant }),
    field({ name: "key", label: t("column.key"), value: narrowed.key }),
    field({ name: "model", label: t("column.model"), value: narrowed.model }),
    field({ name: "by", label: t("usage.by"), type: "choice", value: by, choices: GROUPS.map((group) => [group, t(`group.${group}`)]) }),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("usage", undefined, values(form));
  });
  const download = () => saveTable(problems, { ...narrowed, by: by === "day" ? "day,tenant,model" : `${by},day` });
  const [problems, sums, days, rows, entries] = [h("p", { class: "bad", role: "alert" }), h("div"), h("div", { class: "plots" }), h("div"), h("section")];
  fill(body, form, problems, sums, days, h("div", { class: "actions" }, button(t("usage.csv"), download)), rows, entries);
  const told = (problem) => problem.name !== "AbortError" && fill(problems, problemText(problem));
  showRows(sums, rows, { ...narrowed, by }, by, signal).catch(told);
  showDays(days, narrowed, by === "day" || by === "month" ? "model" : by, signal).catch(told);
  fill(entries, h("h2", {}, t("usage.entries")), entryPages(narrowed, signal));
}

async function showRows(sums, body, query, by, signal) {
  const report = await get(USAGE, query, signal);
  const { total, currency } = report;
  const tile = (name, value, kind = "", note = "") =>
    h("div", { class: `tile ${kind}` }, h("span", { class: "name" }, name), h("b", {}, value), h("span", { class: "note" }, note));
  fill(sums, h("div", { class: "tiles" },
    tile(t("usage.amount"), money(total.amount), "", currency),
    tile(t("usage.number"), count(total.entries)),
    tile(t("usage.unpriced"), count(total.unpriced), total.unpriced > 0 ? "warn" : ""),
    tile(t("usage.estimated"), count(total.estimated)),
    tile(t("usage.cut"), count(total.cut)),
    tile(t("usage.unread"), count(total.unread), total.unread > 0 ? "warn" : "")));
  const dearest = [...report.rows].sort((one, other) => Number(other.amount) - Number(one.amount));
  const inOrder = by === "day" || by === "month" ? report.rows : dearest;
  const rows = inOrder.slice(0, MOST_ROWS);
  fill(body, table({
    caption: t("view.usage"), rows, empty: t("usage.none"),
    columns: [
      { name: t(`group.${by}`), cell: (row) => row[by] || "–" },
      { name: t("usage.number"), kind: "number", cell: ({ entries }) => count(entries) },
      { name: t("column.units"), cell: (row) => units(row.units) },
      { name: t("usage.unpriced"), kind: "number", cell: ({ unpriced }) => count(unpriced) },
      { name: t("column.amount"), kind: "number", cell: ({ amount }) => money(amount, currency) },
    ],
  }), report.rows.length > rows.length && h("p", { class: "note" }, t("usage.more", { number: count(report.rows.length - rows.length) })));
}

/** Bars for each day: the dearest groups, and all others in one. */
async function showDays(body, narrowed, by, signal) {
  const { rows, currency, from } = await dayReport(narrowed, by, signal);
  const named = [...new Set(rows.map(({ day }) => day))].sort();
  if (named.length === 0) return;
  const days = between(from.slice(0, 10), named.at(-1));
  const totals = new Map();
  for (const row of rows) totals.set(row[by], (totals.get(row[by]) ?? 0) + Number(row.amount));
  const dearest = [...totals].sort((one, other) => other[1] - one[1]).slice(0, COLORS - 1).map(([name]) => name);
  const series = (shown, isIn, value) => ({
    name: shown, values: days.map((day) => rows.filter((row) => row.day === day && isIn(row)).reduce((sum, row) => sum + value(row), 0)),
  });
  const groups = (value) => [
    ...dearest.map((name) => series(name || "–", (row) => row[by] === name, value)),
    totals.size > dearest.length && series(t("usage.others"), (row) => !dearest.includes(row[by]), value),
  ].filter(Boolean);
  fill(body,
    plot({ title: t("usage.amount"), note: currency, labels: days, kind: "bar", show: figure, series: groups(({ amount }) => Number(amount)) }),
    plot({ title: t("usage.number"), labels: days, kind: "bar", show: count, series: groups(({ entries }) => entries) }));
}

/** Sums by day and group; by day alone where that would be more rows than the gateway adds up. */
async function dayReport(narrowed, by, signal) {
  try {
    return await get(USAGE, { ...narrowed, by: `day,${by}` }, signal);
  } catch (problem) {
    if (problem.code !== "too_many_groups") throw problem;
    return get(USAGE, { ...narrowed, by: "day" }, signal);
  }
}

/** All days from one to another, a year at most, so that a day without use is seen. */
function between(first, last) {
  const days = [];
  for (let at = Date.parse(`${first}T00:00:00Z`); at <= Date.parse(`${last}T00:00:00Z`) && days.length < 366; at += 86_400_000) {
    days.push(new Date(at).toISOString().slice(0, 10));
  }
  return days.includes(last) ? days : [...days, last];
}

async function saveTable(problems, query) {
  fill(problems);
  try {
    save("dashgate-usage.csv", "text/csv", await text(USAGE, { ...query, format: "csv" }));
  } catch (problem) {
    fill(problems, problemText(problem));
  }
}

/** The entries themselves, oldest first, of which one page is fetched at a time. */
function entryPages(narrowed, signal) {
  return pages({
    signal,
    load: async (after) => {
      const page = await get("/admin/usage/entries", { ...narrowed, after, limit: 50 }, signal);
      return { rows: page.entries, next: page.after };
    },
    show: (rows) => entryTable(rows, t("usage.entries"), t("usage.none")),
  }).element;
}
