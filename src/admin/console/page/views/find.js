// Search: a task, a key, a tenant or a request, by its id. A leaked secret is sent in a body, and is in no address.

import { fill, h, link, place } from "../elements.js";
import { ask, problemText } from "../dialog.js";
import { get, path, send } from "../session.js";
import { entryTable } from "./entries.js";
import { facts } from "./facts.js";
import { keyNamed, keyTable } from "./keys.js";
import { taskTable } from "./tasks.js";
import { t } from "../words.js";

const TASK = "/admin/tasks/{task_id}";

export const title = (what) => t("find.title", { what });

/** Looks for what was typed. */
export function find(what) {
  if (what.startsWith("sk-") || what.startsWith("st-")) {
    findSecret(what);
    return;
  }
  const there = place("find", what);
  if (location.hash === there) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = there;
}

async function findSecret(secret) {
  try {
    const { id } = await send("POST", "/admin/keys/find", { secret });
    find(id);
  } catch (problem) {
    await ask({ title: t("find.secret"), text: problemText(problem), confirm: t("dialog.close"), act: async () => {} });
  }
}

export async function show(body, { name: what, signal }) {
  fill(body, h("p", { class: "note", role: "status" }, t("find.looks")));
  const looked = await Promise.all([
    one(() => tasksOf(what, signal)), one(() => keysOf(what, signal)), one(() => tenantOf(what, signal)), one(() => entriesOf(what, signal)),
  ]);
  if (signal.aborted) return;
  const found = looked.filter(Boolean);
  fill(body, found.length > 0 ? found : h("p", { class: "empty" }, t("find.nothing")));
}

/** A search that fails tells why, and hides none of the others. */
async function one(search) {
  try {
    return await search();
  } catch (problem) {
    if (problem.status === 404 || problem.status === 400 || problem.name === "AbortError") return null;
    return h("p", { class: "bad", role: "alert" }, problemText(problem));
  }
}

async function tasksOf(what, signal) {
  let tasks = await get(path(TASK, what), {}, signal).then((task) => [task], (problem) => {
    if (problem.status === 404) return [];
    throw problem;
  });
  if (tasks.length === 0) ({ tasks } = await get("/admin/tasks", { request_id: what }, signal));
  return tasks.length > 0 && h("section", {}, h("h2", {}, t("view.tasks")), taskTable(tasks));
}

async function keysOf(what, signal) {
  const key = await keyNamed(what, signal);
  return key && h("section", {}, h("h2", {}, t("view.keys")), keyTable([key], () => find(what)));
}

async function tenantOf(what, signal) {
  await get(path("/admin/tenants/{name}/credits", what), { limit: 1 }, signal);
  return h("section", {}, h("h2", {}, t("view.tenants")), facts([[t("column.tenant"), link(what, "tenant", what)]]));
}

async function entriesOf(what, signal) {
  const path = "/admin/usage/entries";
  const pages = await Promise.all(["task_id", "request_id"].map((name) => get(path, { [name]: what, limit: 20 }, signal)));
  const entries = pages.flatMap((page) => page.entries);
  return entries.length > 0 && h("section", {}, h("h2", {}, t("usage.entries")), entryTable(entries, t("usage.entries"), ""));
}
