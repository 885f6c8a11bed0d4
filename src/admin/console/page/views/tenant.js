// One tenant: its settings, its use against its limits, its money, its keys.

import { button, fill, h, link, place } from "../elements.js";
import { moment, money } from "../figures.js";
import { ask, problemText, tell } from "../dialog.js";
import { get, mayOperate, path, send } from "../session.js";
import { pages, table } from "../table.js";
import { facts, leftOver } from "./facts.js";
import { createKey, keyList } from "./keys.js";
import { enabledMark } from "./tenants.js";
import { changeTenant } from "./tenant_form.js";
import { t, worded } from "../words.js";

const TENANT = "/admin/tenants/{name}";
const CREDITS = "/admin/tenants/{name}/credits";

export const title = (name) => t("tenant.title", { name });

export function show(body, { name, signal }) {
  const [settings, balance, keys] = [h("section"), h("section"), h("section")];
  fill(body, settings, balance, keys);
  showSettings(settings, name, signal);
  showMoney(balance, name, signal);
  const list = keyList({ tenant: name, signal });
  fill(keys, h("h2", {}, t("view.keys")),
    mayOperate() && h("div", { class: "actions" }, button(t("keys.create"), () => createKey(name, list.renew), "primary")),
    list.element);
}

async function showSettings(body, name, signal) {
  const renew = () => showSettings(body, name, signal);
  try {
    fill(body, described(await get(path(TENANT, name), {}, signal), name, renew));
  } catch (problem) {
    if (problem.name === "AbortError") return;
    fill(body, h("p", { class: "bad", role: "alert" }, problem.status === 404 ? t("tenant.none", { name }) : problemText(problem)));
  }
}

function described(tenant, name, renew) {
  const shown = ["name", "enabled", "source", "accounts", "allow", "models", "created_at", "changed_at", "settings", "use", "budgets", "holders"];
  const canChange = mayOperate() && tenant.source !== "config";
  const enabled = tenant.enabled ?? true;
  return [
    facts([
      [t("column.state"), enabledMark(tenant)],
      [t("column.made_in"), tenant.source && worded("source", tenant.source)],
      [t("column.created"), tenant.created_at && moment(tenant.created_at)],
      [t("column.accounts"), tenant.accounts?.join(", ")],
      [t("tenant.changed_at"), tenant.changed_at && moment(tenant.changed_at)],
      [t("column.allow"), tenant.allow?.join(", ")],
      [t("field.models"), tenant.settings?.models?.join(", ")],
      ...leftOver(tenant.settings ?? {}, shown),
      ...leftOver(tenant, shown),
      [t("tenant.more_of"), h("span", { class: "acts" },
        link(t("view.tasks"), "tasks", undefined, { tenant: name }), link(t("view.usage"), "usage", undefined, { tenant: name }),
        link(t("view.webhooks"), "webhooks", undefined, { tenant: name }))],
    ]),
    tenant.use && useTable(tenant.use),
    tenant.budgets?.length > 0 && budgetTable(tenant.budgets),
    tenant.holders && holderTables(tenant.holders),
    canChange && h("div", { class: "actions" },
      button(t("tenant.change"), () => changeTenant(name, tenant.settings ?? {}, renew)),
      button(enabled ? t("tenant.suspend") : t("tenant.resume"), () => enable(name, !enabled, renew)),
      button(t("tenant.delete"), () => remove(name), "danger")),
  ];
}

/** The limits of the tenant, with what runs and what is left, as the API tells them: numbers, in groups. */
function useTable(use) {
  const rows = Object.entries(use).flatMap(([name, value]) =>
    (typeof value === "object" && value !== null ? Object.entries(value).map(([of, number]) => [`${name}.${of}`, number]) : [[name, value]]));
  return rows.length > 0 && [h("h2", {}, t("tenant.use")), table({
    caption: t("tenant.use"), rows,
    columns: [
      { name: t("column.limit"), cell: ([name]) => h("code", {}, name) },
      { name: t("column.value"), kind: "number", cell: ([, value]) => (typeof value === "object" ? JSON.stringify(value) : String(value)) },
    ],
  })];
}

function budgetTable(budgets) {
  return table({
    caption: t("tenant.budgets"), rows: budgets,
    columns: [
      { name: t("tenant.budget"), cell: ({ period }) => period },
      { name: t("column.amount"), kind: "number", cell: ({ amount }) => money(amount) },
      { name: t("money.spent"), kind: "number", cell: ({ spent }) => money(spent) },
      { name: t("money.held"), kind: "number", cell: ({ held }) => money(held) },
      { name: t("tenant.left"), kind: "number", cell: ({ left }) => money(left) },
    ],
  });
}

/** The keys that hold most slots, and the oldest tasks that run. */
function holderTables({ keys, key_count: count, oldest_tasks: tasks }) {
  return [
    keys.length > 0 && [h("h2", {}, t("tenant.holders")), table({
      caption: t("tenant.holders"), rows: keys,
      columns: [
        { name: t("column.key"), cell: ({ id }) => h("code", {}, id) },
        { name: t("tenant.requests"), kind: "number", cell: ({ requests }) => String(requests) },
        { name: t("tenant.tasks"), kind: "number", cell: ({ tasks: number }) => String(number) },
      ],
    }), count > keys.length && h("p", { class: "note" }, t("tenant.more_holders", { number: count - keys.length }))],
    tasks.length > 0 && [h("h2", {}, t("tenant.oldest")), table({
      caption: t("tenant.oldest"), rows: tasks,
      columns: [
        { name: t("column.task"), cell: ({ id }) => link(id, "task", id) },
        { name: t("column.key"), cell: ({ key_id: key }) => h("code", {}, key) },
        { name: t("column.model"), cell: ({ model }) => model },
        { name: t("column.at"), cell: ({ claimed_at: at }) => moment(at) },
      ],
    })],
  ];
}

async function enable(name, enabled, renew) {
  const done = await ask({
    title: enabled ? t("tenant.resume") : t("tenant.suspend"), confirm: enabled ? t("tenant.resume") : t("tenant.suspend"),
    text: enabled ? t("tenant.resume_text", { name }) : t("tenant.suspend_text", { name }), danger: !enabled,
    act: () => send("PATCH", path(TENANT, name), { enabled }),
  });
  if (done === undefined) return;
  tell(t("tenant.changed", { name }));
  renew();
}

async function remove(name) {
  const done = await ask({
    title: t("tenant.delete"), text: t("tenant.delete_text", { name }), confirm: t("tenant.delete"), danger: true,
    act: () => send("DELETE", path(TENANT, name)),
  });
  if (done === undefined) return;
  tell(t("tenant.deleted", { name }));
  location.hash = place("tenants");
}

async function showMoney(body, name, signal) {
  let sums;
  const list = pages({
    signal,
    load: async (after) => {
      const page = await get(path(CREDITS, name), { after, limit: 20 }, signal);
      sums = page;
      return { rows: page.credits, next: page.next };
    },
    show: (rows) => [
      facts([
        [t("money.balance"), money(sums.balance, sums.currency)],
        [t("money.spent"), money(sums.spent, sums.currency)],
        [t("money.held"), money(sums.held, sums.currency)],
      ]),
      table({
        caption: t("money.credits"), rows, empty: t("money.no_credits"),
        columns: [
          { name: t("column.at"), cell: ({ at }) => moment(at) },
          { name: t("column.credit"), cell: ({ id }) => h("code", {}, id) },
          { name: t("column.amount"), kind: "number", cell: ({ amount }) => money(amount, sums.currency) },
          { name: t("column.note"), cell: ({ note }) => note },
        ],
      }),
    ],
  });
  fill(body, h("h2", {}, t("money.title")),
    mayOperate() && h("div", { class: "actions" }, button(t("money.credit"), () => credit(name, list.renew))), list.element);
}

async function credit(name, renew) {
  const done = await ask({
    title: t("money.credit_title", { name }), confirm: t("money.credit"),
    fields: [
      { name: "amount", label: t("column.amount"), required: true, inputmode: "decimal", hint: t("money.amount_hint") },
      { name: "id", label: t("column.credit"), required: true, hint: t("money.id_hint") },
      { name: "note", label: t("column.note"), required: true },
    ],
    act: (given) => send("POST", path(CREDITS, name), given),
  });
  if (done === undefined) return;
  tell(t("money.credited"));
  renew();
}
