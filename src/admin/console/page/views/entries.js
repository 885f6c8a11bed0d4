// Entries of the ledger, as a table.

import { h, link, place } from "../elements.js";
import { moment, money, units } from "../figures.js";
import { table } from "../table.js";
import { t } from "../words.js";

export function entryTable(rows, caption, empty) {
  return table({
    caption, rows, empty,
    columns: [
      { name: t("column.at"), cell: ({ at }) => moment(at) },
      { name: t("column.source"), cell: ({ source }) => sourceLink(source) },
      { name: t("column.tenant"), cell: ({ tenant }) => link(tenant, "tenant", tenant) },
      { name: t("column.key"), cell: ({ key_id }) => key_id },
      { name: t("column.model"), cell: ({ model }) => model },
      { name: t("column.units"), cell: (entry) => units(entry.units) },
      { name: t("column.price"), cell: ({ price }) => price },
      { name: t("column.amount"), kind: "number", cell: ({ amount, currency }) => money(amount, currency) },
      { name: t("column.flags"), cell: ({ flags, note }) => [...flags, note].filter(Boolean).join(", ") || "–" },
    ],
  });
}

/** The entry of a task is named `task:ACCOUNT/ID`. */
function sourceLink(source) {
  const shown = h("code", {}, source);
  return source.startsWith("task:") ? h("a", { href: place("task", source.split("/").pop()) }, shown) : shown;
}
