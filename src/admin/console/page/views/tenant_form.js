// The form of a tenant that is made or changed at run time: the usual keys of `[[tenants]]` as fields, any other as JSON.

import { place } from "../elements.js";
import { ask, tell } from "../dialog.js";
import { path, send } from "../session.js";
import { t } from "../words.js";

const list = (text) => text.split(/[\s,]+/).filter(Boolean);

// Fields of the form: the path of the key, how it reads text, and how it shows a value.
const KEYS = [
  ["models", list, (value) => (value ?? []).join(", ")],
  ["accounts", list, (value) => (value ?? []).join(", ")],
  ["prices", String, (value) => value ?? ""],
  ["weight", Number, (value) => String(value ?? "")],
  ["tenant_limits.requests_per_second", Number, (value) => String(value ?? "")],
  ["tenant_limits.concurrent_requests", Number, (value) => String(value ?? "")],
  ["tenant_limits.tasks_in_flight", Number, (value) => String(value ?? "")],
];

const at = (thing, key) => key.split(".").reduce((found, name) => found?.[name], thing);

/** Sets a key, perhaps of a table; null takes it away. The gateway merges tables. */
function put(made, key, value) {
  const [name, inner] = key.split(".");
  made[name] = inner === undefined ? value : { ...made[name], [inner]: value };
}

function fields(settings) {
  const usual = KEYS.map(([key, , shown]) => ({ name: key, label: t(`field.${key}`), value: shown(at(settings, key)) }));
  return [...usual, { name: "more", label: t("tenant.more"), type: "long", hint: t("tenant.more_hint"), rows: "5" }];
}

/** The body of a call: fields that differ from what is set, and the JSON. */
function body(given, settings) {
  const made = {};
  for (const [key, read, shown] of KEYS) {
    if (given[key] !== shown(at(settings, key))) put(made, key, given[key] === "" ? null : read(given[key]));
  }
  if (given.more) {
    let more;
    try {
      more = JSON.parse(given.more);
    } catch (problem) {
      throw new Error(`${t("tenant.more")}: ${problem.message}`);
    }
    Object.assign(made, more);
  }
  return made;
}

/** Asks for a new tenant, and makes it. */
export async function createTenant() {
  const done = await ask({
    title: t("tenants.create"), confirm: t("tenants.create"),
    fields: [{ name: "name", label: t("column.tenant"), required: true, hint: t("tenants.name_hint") }, ...fields({})],
    act: async ({ name, ...given }) => {
      const set = Object.entries(body(given, {})).filter(([, value]) => value !== null);
      await send("POST", "/admin/tenants", { name, ...Object.fromEntries(set) });
      return name;
    },
  });
  if (done === undefined) return;
  tell(t("tenants.made", { name: done }));
  location.hash = place("tenant", done);
}

/** Asks for changes of a tenant, and makes them. */
export async function changeTenant(name, settings, renew) {
  const done = await ask({
    title: t("tenant.change_title", { name }), confirm: t("dialog.save"), fields: fields(settings),
    act: (given) => send("PATCH", path("/admin/tenants/{name}", name), body(given, settings)),
  });
  if (done === undefined) return;
  tell(t("tenant.changed", { name }));
  renew();
}
