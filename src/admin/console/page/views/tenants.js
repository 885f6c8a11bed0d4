// Tenants, by name.

import { button, fill, h, link, place } from "../elements.js";
import { field, values } from "../dialog.js";
import { get, mayOperate } from "../session.js";
import { pages, table } from "../table.js";
import { before } from "./keys.js";
import { createTenant } from "./tenant_form.js";
import { t, worded } from "../words.js";

const TENANTS = "/admin/tenants";

export const title = () => t("view.tenants");

export function show(body, { query, signal }) {
  const from = query.get("from") ?? "";
  const form = h("form", { class: "filters" },
    field({ name: "from", label: t("tenants.from"), value: from }),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("tenants", undefined, values(form));
  });
  const list = pages({
    signal, first: before(from),
    load: async (after) => {
      const { tenants, next } = await get(TENANTS, { after, limit: 100 }, signal);
      return { rows: tenants, next };
    },
    show: tenantTable,
  });
  fill(body,
    mayOperate() && h("div", { class: "actions" }, button(t("tenants.create"), () => createTenant(), "primary")),
    form, list.element);
}

function tenantTable(rows) {
  const has = (name) => rows.some((row) => row[name] !== undefined);
  const columns = [
    { name: t("column.tenant"), cell: ({ name }) => link(name, "tenant", name) },
    { name: t("column.state"), cell: (tenant) => enabledMark(tenant) },
    has("source") && { name: t("column.made_in"), cell: ({ source }) => worded("source", source) },
    { name: t("column.accounts"), cell: ({ accounts }) => accounts?.join(", ") },
    { name: t("column.allow"), cell: ({ allow }) => allow?.join(", ") },
    { name: t("column.keys"), cell: ({ name }) => link(t("view.keys"), "keys", undefined, { tenant: name }) },
  ];
  return table({ caption: t("view.tenants"), rows, empty: t("tenants.none"), columns: columns.filter(Boolean) });
}

/** Text that says if a tenant's requests pass. */
export const enabledMark = ({ enabled = true }) =>
  h("span", { class: `mark ${enabled ? "good" : "bad"}` }, enabled ? t("tenant.enabled") : t("tenant.suspended"));
