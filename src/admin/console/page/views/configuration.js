// The configuration as loaded, without secrets, and the faults of a file that was refused.

import { button, fill, h } from "../elements.js";
import { moment } from "../figures.js";
import { ask, problemText, tell } from "../dialog.js";
import { get, mayOperate, send } from "../session.js";
import { table } from "../table.js";
import { facts } from "./facts.js";
import { t } from "../words.js";

export const title = () => t("view.configuration");

export function show(body, { signal }) {
  const place = h("div");
  const renew = async () => {
    try {
      fill(place, described(await get("/admin/config", {}, signal)));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(place, h("p", { class: "bad", role: "alert" }, problemText(problem)));
    }
  };
  const load = async () => {
    const done = await ask({
      title: t("config.reload"), text: t("config.reload_text"), confirm: t("config.reload"), act: () => send("POST", "/admin/reload"),
    });
    if (done !== undefined) tell(t("config.reloaded"));
    renew();
  };
  fill(body, mayOperate() && h("div", { class: "actions" }, button(t("config.reload"), load)), place);
  renew();
}

function described({ file, loaded_at, needs_restart, warnings, refused, settings }) {
  return [
    facts([
      [t("config.file"), file ? h("code", {}, file) : t("config.no_file")],
      [t("config.loaded"), moment(loaded_at)],
      [t("config.needs_restart"), needs_restart.join(", ")],
    ]),
    refused && h("section", { class: "alarm" }, h("h2", {}, t("config.refused")),
      h("p", {}, t("config.refused_text"), " ", moment(refused.at)), faultTable(refused.faults, t("config.refused"))),
    warnings.length > 0 && h("section", {}, h("h2", {}, t("config.warnings")), faultTable(warnings, t("config.warnings"))),
    h("section", {}, h("h2", {}, t("config.settings")), Object.entries(settings).map(([name, value]) => part(name, value))),
  ];
}

function faultTable(rows, caption) {
  return table({
    caption, rows,
    columns: [
      { name: t("config.line"), kind: "number", cell: ({ line, column }) => (line ? `${line}:${column}` : "–") },
      { name: t("config.key"), cell: ({ path }) => h("code", {}, path) },
      { name: t("config.problem"), cell: ({ problem }) => problem },
      { name: t("config.hint"), cell: ({ hint }) => hint },
    ],
  });
}

/** A table of the file, which opens. A long list ends with the number of items that are left out. */
function part(name, value) {
  const isList = Array.isArray(value);
  const more = (isList && value.at(-1)?.more) || 0;
  const shown = more > 0 ? value.slice(0, -1) : value;
  const summary = isList ? `[[${name}]] × ${shown.length + more}` : `[${name}]`;
  return h("details", { open: !isList }, h("summary", {}, summary),
    h("pre", { tabindex: "0", role: "region", "aria-label": summary }, JSON.stringify(shown, null, 2)),
    more > 0 && h("p", { class: "note" }, t("config.more", { number: more })));
}
