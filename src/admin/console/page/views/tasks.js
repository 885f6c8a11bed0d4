// Tasks, the newest first, by what narrows them.

import { fill, h, link, place } from "../elements.js";
import { moment } from "../figures.js";
import { field, values } from "../dialog.js";
import { get } from "../session.js";
import { pages, table } from "../table.js";
import { t } from "../words.js";

const STATUSES = ["PENDING", "RUNNING", "SUSPENDED", "SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"];
const PATH = "/admin/tasks";

export const title = () => t("view.tasks");

export function show(body, { query, signal }) {
  const fields = [
    { name: "tenant", label: t("column.tenant") },
    { name: "status", label: t("column.status"), type: "choice", choices: [["", t("list.any")], ...STATUSES.map((status) => [status, status])] },
    { name: "key", label: t("column.key") },
    { name: "model", label: t("column.model") },
    { name: "from", label: t("list.from"), type: "date" },
    { name: "to", label: t("list.to"), type: "date" },
    { name: "request_id", label: t("column.request_id") },
  ];
  const form = h("form", { class: "filters" }, fields.map((one) => field({ ...one, value: query.get(one.name) ?? "" })),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("tasks", undefined, values(form));
  });
  const narrowed = Object.fromEntries(fields.map(({ name }) => [name, query.get(name)]));
  const list = pages({
    signal,
    load: async (after) => {
      const { tasks, next } = await get(PATH, { ...narrowed, after, limit: 100 }, signal);
      return { rows: tasks, next };
    },
    show: (rows) => taskTable(rows),
  });
  fill(body, form, list.element);
}

/** A table of tasks. */
export function taskTable(rows) {
  const id = (task) => task.task_id ?? task.id;
  return table({
    caption: t("view.tasks"), rows, empty: t("tasks.none"),
    columns: [
      { name: t("column.task"), cell: (task) => h("a", { href: place("task", id(task)) }, h("code", {}, id(task))) },
      { name: t("column.status"), cell: ({ status }) => statusMark(status) },
      { name: t("column.tenant"), cell: ({ tenant }) => link(tenant, "tenant", tenant) },
      { name: t("column.key"), cell: ({ key_id }) => key_id },
      { name: t("column.model"), cell: ({ model }) => model },
      { name: t("column.account"), cell: ({ account }) => account },
      { name: t("column.submitted"), cell: (task) => moment(task.submitted_at ?? task.claimed_at) },
    ],
  });
}

/** A status of DashScope's, with a colour. */
export function statusMark(status) {
  const kind = { SUCCEEDED: "good", FAILED: "bad", UNKNOWN: "bad", RUNNING: "busy", PENDING: "busy" }[status] ?? "";
  return h("span", { class: `mark ${kind}` }, status);
}
