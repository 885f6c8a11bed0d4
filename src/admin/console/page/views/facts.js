// Facts of one thing, as a list of names and values.

import { h } from "../elements.js";

/** `rows` is `[[name, value]]`; what has no value is left out. */
export function facts(rows) {
  const present = rows.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return h("dl", { class: "facts" }, present.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Facts that a newer gateway tells, and that the view has no words for. */
export function leftOver(thing, shown) {
  const rest = Object.entries(thing).filter(([name]) => !shown.includes(name));
  return rest.map(([name, value]) => [name, isPlain(value) ? value : h("code", {}, JSON.stringify(value))]);
}

const isPlain = (value) => value === null || typeof value === "string";
