// One task: whose it is, how it went, and what it was charged.

import { button, fill, h, link } from "../elements.js";
import { moment, money } from "../figures.js";
import { ask, problemText, tell } from "../dialog.js";
import { get, mayOperate, path, send } from "../session.js";
import { facts, leftOver } from "./facts.js";
import { entryTable } from "./entries.js";
import { statusMark } from "./tasks.js";
import { deliveryTable } from "./deliveries.js";
import { t } from "../words.js";

const PATH = "/admin/tasks/{task_id}";
const REFRESH = "/admin/tasks/{task_id}/refresh";

export const title = (id) => t("task.title", { id });

export function show(body, { name: id, signal }) {
  const [task, charged] = [h("section"), h("section")];
  fill(body, task, charged);
  showTask(task, id, signal);
  showCharged(charged, id, signal);
}

async function showTask(body, id, signal) {
  try {
    const task = await get(path(PATH, id), {}, signal);
    fill(body, described(task, () => showTask(body, id, signal)));
  } catch (problem) {
    if (problem.name === "AbortError") return;
    fill(body, h("p", { class: "bad", role: "alert" }, problem.status === 404 ? t("task.none") : problemText(problem)));
  }
}

function described(task, renew) {
  const { error, cost } = task;
  const known = [
    [t("column.status"), statusMark(task.status)],
    [t("column.tenant"), link(task.tenant, "tenant", task.tenant)],
    [t("column.key"), task.key_id],
    [t("column.model"), task.model],
    [t("column.account"), task.account],
    [t("column.submitted"), moment(task.submitted_at)],
    [t("task.known"), moment(task.known_at)],
    [t("task.ended"), moment(task.ended_at)],
    [t("task.error"), error && [h("code", {}, error.code ?? ""), " ", error.message ?? ""]],
    [t("task.request_id"), task.request_id && h("code", {}, task.request_id)],
    [t("task.submit_request_id"), task.submit_request_id && h("code", {}, task.submit_request_id)],
    [t("task.upstream_request_id"), task.upstream_request_id && h("code", {}, task.upstream_request_id)],
    [t("task.cost"), cost && money(cost, task.currency)],
    [t("task.usage"), task.usage && h("code", {}, JSON.stringify(task.usage))],
  ];
  const shown = ["task_id", "status", "tenant", "key_id", "model", "account", "submitted_at", "known_at", "ended_at", "error",
    "request_id", "submit_request_id", "upstream_request_id", "cost", "currency", "usage", "refreshed", "deliveries"];
  const refresh = async () => {
    await ask({
      title: t("task.refresh"), text: t("task.refresh_text"), confirm: t("task.refresh"),
      act: async () => { await send("POST", path(REFRESH, task.task_id)); tell(t("task.refreshed")); },
    });
    renew();
  };
  return [
    facts([...known, ...leftOver(task, shown)]),
    mayOperate() && h("div", { class: "actions" }, button(t("task.refresh"), refresh)),
    task.deliveries?.length > 0 && [h("h2", {}, t("view.webhooks")), deliveryTable(task.deliveries, renew)],
  ];
}

async function showCharged(body, id, signal) {
  try {
    const { entries } = await get("/admin/usage/entries", { task_id: id }, signal);
    fill(body, h("h2", {}, t("task.charged")), entryTable(entries, t("task.charged"), t("task.not_charged")));
  } catch (problem) {
    if (problem.name !== "AbortError") fill(body, h("p", { class: "bad" }, problemText(problem)));
  }
}
