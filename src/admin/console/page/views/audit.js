// The audit trail: each change, who asked for it, and how it ended.

import { fill, h, link } from "../elements.js";
import { moment } from "../figures.js";
import { get } from "../session.js";
import { pages, table } from "../table.js";
import { t } from "../words.js";

export const title = () => t("view.audit");

// Names that have columns of their own.
const SHOWN = ["id", "at", "action", "outcome", "token", "token_name", "name", "peer", "tenant", "key_id"];

export function show(body, { signal }) {
  const list = pages({
    signal,
    load: async (after) => {
      const page = await get("/admin/audit", { after, limit: 100 }, signal);
      return { rows: page.entries ?? page.audit ?? page.changes, next: page.next ?? page.after };
    },
    show: (rows) => table({
      caption: t("view.audit"), rows, empty: t("audit.none"),
      columns: [
        { name: t("column.at"), cell: ({ at }) => moment(at) },
        { name: t("column.action"), cell: ({ action }) => h("code", {}, action) },
        { name: t("column.outcome"), cell: ({ outcome }) => h("span", { class: `mark ${outcome === "done" ? "good" : "bad"}` }, outcome) },
        { name: t("column.by"), cell: ({ token_name, name, token }) => token_name ?? name ?? token },
        { name: t("column.peer"), cell: ({ peer }) => peer },
        { name: t("column.tenant"), cell: ({ tenant }) => tenant && link(tenant, "tenant", tenant) },
        { name: t("column.key"), cell: ({ key_id }) => key_id },
        { name: t("column.more"), cell: (entry) => rest(entry) },
      ],
    }),
  });
  fill(body, list.element);
}

function rest(entry) {
  const more = Object.entries(entry).filter(([name, value]) => !SHOWN.includes(name) && value !== null && value !== "" && value !== false);
  return more.map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") || "–";
}
