// Tables, and lists that are fetched a page at a time.

import { button, fill, h } from "./elements.js";
import { t } from "./words.js";
import { problemText } from "./dialog.js";

/**
 * A table. A column is `{ name, cell(row), kind }`; a kind of `number` stands at the right. The roles are written out, since
 * on a narrow screen the style sheet shows each row as a card.
 */
export function table({ caption, columns, rows, empty = t("list.empty") }) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const head = columns.map(({ name, kind = "" }) => h("th", { scope: "col", role: "columnheader", class: kind }, name));
  const body = rows.map((row) => h("tr", { role: "row" }, columns.map(({ name, cell, kind = "" }) =>
    h("td", { role: "cell", class: kind, "data-name": name }, h("div", {}, cell(row) ?? "–")))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { role: "table" },
      h("caption", { class: "hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, body)));
}

/**
 * A list of any length, of which one page is fetched and shown at a time. `load(after)` gives `{ rows, next }`, and
 * `show(rows)` an element.
 */
export function pages({ load, show, signal, first = "" }) {
  const place = h("div", { class: "pages", "aria-live": "polite" });
  const cursors = [first];
  const turn = async (moved) => {
    place.setAttribute("aria-busy", "true");
    try {
      const { rows, next } = await load(cursors.at(-1));
      if (signal.aborted) return;
      const buttons = h("div", { class: "turn", role: "group", "aria-label": t("list.pages") });
      if (cursors.length > 1) {
        buttons.append(
          button(t("list.first"), () => { cursors.length = 1; turn(true); }),
          button(t("list.previous"), () => { cursors.pop(); turn(true); }));
      }
      if (cursors.length > 1 || next) buttons.append(h("span", { class: "note" }, t("list.page", { number: cursors.length })));
      if (next) buttons.append(button(t("list.next"), () => { cursors.push(next); turn(true); }));
      fill(place, show(rows), buttons.childElementCount > 0 && buttons);
      if (moved) (place.querySelector(".scroll") ?? place).focus({ preventScroll: false });
    } catch (problem) {
      if (problem.name !== "AbortError") fill(place, h("p", { class: "bad", role: "alert" }, problemText(problem)));
    }
    place.removeAttribute("aria-busy");
  };
  turn(false);
  return { element: place, renew: () => turn(false) };
}
