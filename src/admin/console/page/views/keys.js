// Virtual keys: made, changed and revoked. A secret is shown once.

import { button, fill, h, link, place } from "../elements.js";
import { moment } from "../figures.js";
import { ask, field, problemText, showSecret, tell, values } from "../dialog.js";
import { get, mayOperate, path, send } from "../session.js";
import { pages, table } from "../table.js";
import { limitLines, limitsOf } from "./key_limits.js";
import { t, worded } from "../words.js";

const KEYS = "/admin/keys";
const KEY = "/admin/keys/{id}";

export const title = () => t("view.keys");

export function show(body, { query, signal }) {
  const [tenant, from] = [query.get("tenant") ?? "", query.get("from") ?? ""];
  const form = h("form", { class: "filters" },
    field({ name: "tenant", label: t("column.tenant"), value: tenant }),
    field({ name: "from", label: t("keys.from"), value: from }),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("keys", undefined, values(form));
  });
  const list = keyList({ tenant, first: before(from), signal });
  const make = mayOperate() && h("div", { class: "actions" },
    button(t("keys.create"), () => createKey(tenant, list.renew), "primary"));
  fill(body, make, form, list.element);
}

/** Pages of the keys of a tenant, or of all. */
export function keyList({ tenant, first = "", signal }) {
  const list = pages({
    signal, first,
    load: async (after) => {
      const { keys, next } = await get(KEYS, { tenant, after, limit: 100 }, signal);
      return { rows: keys, next };
    },
    show: (rows) => keyTable(rows, () => list.renew()),
  });
  return list;
}

/** A name behind which names that begin like `text` come; names have no byte behind `~`. */
export function before(text) {
  if (text === "") return "";
  return `${text.slice(0, -1)}${String.fromCharCode(text.charCodeAt(text.length - 1) - 1)}~`;
}

export function keyTable(rows, renew) {
  const has = (name) => rows.some((row) => row[name] !== undefined && row[name] !== null && row[name] !== "");
  const [chosen, go] = [new Set(), button(t("keys.revoke_chosen"), () => revokeKeys([...chosen], renew), "danger")];
  go.disabled = true;
  const choose = ({ id }) => h("input", {
    type: "checkbox", "aria-label": t("keys.choose_one", { id }),
    on: { change: ({ target }) => {
      if (target.checked) chosen.add(id); else chosen.delete(id);
      go.disabled = chosen.size === 0;
    } },
  });
  const canChoose = rows.filter(mayRevoke).length > 1;
  const columns = [
    canChoose && { name: t("keys.choose"), cell: (key) => mayRevoke(key) && choose(key) },
    { name: t("column.key"), cell: ({ id }) => h("code", {}, id) },
    { name: t("column.tenant"), cell: ({ tenant }) => link(tenant, "tenant", tenant) },
    { name: t("column.status"), cell: ({ status }) => h("span", { class: `mark ${status === "live" ? "good" : "bad"}` }, worded("key", status)) },
    { name: t("column.made_in"), cell: ({ source }) => worded("source", source) },
    { name: t("column.created"), cell: ({ created_at }) => moment(created_at) },
    { name: t("column.expires"), cell: ({ expires_at }) => (expires_at ? moment(expires_at) : t("key.never")) },
    has("last_used_at") && { name: t("column.last_use"), cell: ({ last_used_at }) => moment(last_used_at) },
    has("limits") && { name: t("keys.limits"), cell: ({ limits }) => limits && limitLines(limits).map((line) => h("div", {}, h("code", {}, line))) },
    has("note") && { name: t("column.note"), cell: ({ note }) => note },
    { name: t("column.act"), cell: (key) => acts(key, renew) },
  ];
  return [
    canChoose && h("div", { class: "actions" }, go),
    table({ caption: t("view.keys"), rows, empty: t("keys.none"), columns: columns.filter(Boolean) }),
  ];
}

const mayRevoke = (key) => mayOperate() && key.source === "admin" && key.status !== "revoked";

function acts(key, renew) {
  const use = h("a", { href: place("usage", undefined, { key: key.id }), "aria-label": t("keys.use_of", { id: key.id }) }, t("keys.use"));
  if (!mayRevoke(key)) return use;
  const named = (label, act, kind) => h("button", { type: "button", class: kind, "aria-label": `${label}: ${key.id}`, on: { click: act } }, label);
  return h("span", { class: "acts" }, use,
    named(t("keys.change"), () => changeKey(key, renew), "quiet"),
    key.status === "live" && named(t("keys.rotate"), () => rotateKey(key, renew), "quiet"),
    named(t("keys.revoke"), () => revokeKey(key, renew), "quiet danger"));
}

/** Asks for a new key, makes it, and shows its secret. */
export async function createKey(tenant, renew) {
  const made = await ask({
    title: t("keys.create"), confirm: t("keys.create"),
    fields: [
      { name: "tenant", label: t("column.tenant"), value: tenant, required: true },
      { name: "id", label: t("keys.id"), hint: t("keys.id_hint") },
      { name: "expires", label: t("column.expires"), hint: t("keys.expires_hint") },
      { name: "note", label: t("column.note") },
      { name: "addresses", label: t("keys.addresses"), hint: t("keys.addresses_hint") },
      { name: "limits", label: t("keys.limits"), hint: t("keys.limits_hint"), type: "long" },
    ],
    act: (given) => send("POST", KEYS, written(given)),
  });
  if (!made) return;
  await showSecret(t("keys.made", { id: made.id }), made.key);
  renew();
}

async function changeKey(key, renew) {
  const done = await ask({
    title: t("keys.change_title", { id: key.id }), confirm: t("dialog.save"),
    fields: [
      { name: "expires", label: t("column.expires"), hint: t("keys.new_end_hint") },
      { name: "note", label: t("column.note"), value: key.note ?? "" },
      { name: "addresses", label: t("keys.addresses"), hint: t("keys.addresses_hint"), value: (key.addresses ?? []).join(", ") },
      { name: "limits", label: t("keys.limits"), hint: t("keys.limits_hint"), type: "long", value: limitLines(key.limits).join("\n") },
    ],
    act: ({ expires, note, addresses, limits }) => send("PATCH", path(KEY, key.id), {
      ...(expires ? { expires } : {}), note: note || null, addresses: addresses ? addresses.split(/[\s,]+/) : null,
      ...(limits === undefined ? {} : { limits: limitsOf(limits, key.limits) }),
    }),
  });
  if (done === undefined) return;
  tell(t("keys.changed", { id: key.id }));
  renew();
}

/** Fields that were filled in, as the API takes them. */
function written(given) {
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
  if (set.addresses !== undefined) set.addresses = set.addresses.split(/[\s,]+/);
  if (set.limits !== undefined) set.limits = limitsOf(set.limits);
  return set;
}

async function rotateKey(key, renew) {
  const made = await ask({
    title: t("keys.rotate_title", { id: key.id }), text: t("keys.rotate_text"), confirm: t("keys.rotate"),
    fields: [{ name: "grace", label: t("keys.grace"), hint: t("keys.grace_hint"), value: "24h" }],
    act: ({ grace }) => send("POST", path("/admin/keys/{id}/rotate", key.id), grace ? { grace } : {}),
  });
  if (!made) return;
  await showSecret(t("keys.rotated", { id: made.id }), made.key);
  renew();
}

async function revokeKey(key, renew) {
  const done = await ask({
    title: t("keys.revoke_title", { id: key.id }), text: t("keys.revoke_text"), confirm: t("keys.revoke"), danger: true,
    act: () => send("DELETE", path(KEY, key.id)),
  });
  if (done === undefined) return;
  tell(t("keys.revoked", { id: key.id }));
  renew();
}

/** Revokes keys one after another. One that can't be revoked keeps no other from it. */
async function revokeKeys(ids, renew) {
  const done = await ask({
    title: t("keys.revoke_many", { number: ids.length }), text: `${ids.join(", ")}. ${t("keys.revoke_text")}`,
    confirm: t("keys.revoke"), danger: true,
    act: async () => {
      const problems = [];
      for (const id of [...ids]) {
        try {
          await send("DELETE", path(KEY, id));
          ids.splice(ids.indexOf(id), 1);
        } catch (problem) {
          problems.push(`${id}: ${problemText(problem)}`);
        }
      }
      if (problems.length > 0) throw new Error(problems.join("\n"));
    },
  });
  if (done !== undefined) tell(t("keys.revoked_many"));
  renew();
}

/** The key of an id, or undefined. */
export async function keyNamed(id, signal) {
  const { keys } = await get(KEYS, { after: before(id), limit: 1 }, signal);
  return keys.find((key) => key.id === id);
}
