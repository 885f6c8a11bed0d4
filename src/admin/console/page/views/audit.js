// The audit: who asked for which change, and how it ended; the newest first.

import { fill, h, place } from "../elements.js";
import { moment } from "../figures.js";
import { field, values } from "../dialog.js";
import { get } from "../session.js";
import { pages, table } from "../table.js";
import { t, worded } from "../words.js";

const PATH = "/admin/audit";

export const title = () => t("view.audit");

export function show(body, { query, signal }) {
  const [by, object] = [query.get("by") ?? "", query.get("object") ?? ""];
  const form = h("form", { class: "filters" },
    field({ name: "by", label: t("column.by"), value: by }),
    field({ name: "object", label: t("column.object"), value: object }),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("audit", undefined, values(form));
  });
  const list = pages({
    signal,
    load: async (after) => {
      const { audit, next } = await get(PATH, { by, object, after, limit: 100 }, signal);
      return { rows: audit, next };
    },
    show: auditTable,
  });
  fill(body, form, list.element);
}

function auditTable(rows) {
  const columns = [
    { name: t("column.at"), cell: ({ at }) => moment(at) },
    { name: t("column.by"), cell: ({ by }) => by ?? "–" },
    { name: t("column.action"), cell: ({ action }) => h("code", {}, action) },
    { name: t("column.object"), cell: ({ object }) => object && h("a", { href: place("audit", undefined, { object }) }, object) },
    { name: t("column.outcome"), cell: (row) => outcome(row) },
    { name: t("column.more"), cell: ({ detail }) => Object.entries(detail ?? {}).map(([name, value]) => `${name}: ${value}`).join(", ") || "–" },
    { name: t("column.peer"), cell: ({ peer }) => peer },
    rows.some(({ replica }) => replica) && { name: t("column.replica"), cell: ({ replica }) => replica },
  ];
  return table({ caption: t("view.audit"), rows, empty: t("audit.none"), columns: columns.filter(Boolean) });
}

function outcome({ effect, outcome }) {
  const kind = { changed: "good", tried: "busy" }[effect] ?? "bad";
  const mark = h("span", { class: `mark ${kind}` }, worded("audit", effect.replaceAll(" ", "_")));
  return outcome === "done" ? mark : [mark, " ", h("code", {}, outcome)];
}
