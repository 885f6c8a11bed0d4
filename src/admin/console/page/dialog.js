// Dialogs: questions, forms, and a secret that is shown once.

import { button, fill, h } from "./elements.js";
import { t } from "./words.js";

let numbered = 0;

/** A problem in words: the server's own, or that it can't be reached. */
export function problemText(problem) {
  if (problem.code === "unreachable") return t("problem.unreachable");
  if (problem.status === undefined) return problem.message;
  const faults = (problem.body?.faults ?? []).map((fault) => `${fault.line ?? "-"}:${fault.column ?? "-"} ${fault.path}: ${fault.problem}`);
  return [`${problem.message} (${problem.code || problem.status})`, ...faults].join("\n");
}

function open(title, ...content) {
  const id = `dialog-${++numbered}`;
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), content);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A field of a form: `{ name, label, type, hint, value, required, choices }`. */
export function field({ name, label, type = "text", hint, value = "", required = false, choices = [], ...more }) {
  const id = `field-${++numbered}`;
  const hintId = hint && `${id}-hint`;
  const attributes = { id, name, required, "aria-describedby": hintId, ...more };
  let input;
  if (type === "choice") {
    input = h("select", attributes, choices.map(([choice, shown]) =>
      h("option", { value: choice, selected: choice === value }, shown)));
  } else if (type === "long") {
    input = h("textarea", { ...attributes, rows: more.rows ?? "4", spellcheck: "false" }, value);
  } else {
    input = h("input", { ...attributes, type, value, autocomplete: "off", spellcheck: "false" });
  }
  return h("div", { class: "field" }, h("label", { for: id }, label), input,
    hint && h("p", { class: "hint", id: hintId }, hint));
}

/** Values of a form's fields, without blanks around them. */
export function values(form) {
  return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
}

/**
 * Opens a form. `act(values)` makes the change; its refusal is told in the form, which then stays. The promise gives the
 * result of `act`, or undefined if the person gave up.
 */
export function ask({ title, text, fields = [], confirm, danger = false, act }) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "bad", role: "alert" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm);
    let result;
    const form = h("form", {}, text && h("p", {}, text), fields.map(field), problem,
      h("div", { class: "actions" }, button(t("dialog.cancel"), () => dialog.close()), go));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      fill(problem);
      try {
        result = (await act(values(form))) ?? null;
        dialog.close();
      } catch (failure) {
        fill(problem, problemText(failure));
      }
      go.disabled = false;
    });
    const dialog = open(title, form);
    dialog.addEventListener("close", () => resolve(result));
  });
}

/** Shows a secret, once. */
export function showSecret(title, secret) {
  return new Promise((resolve) => {
    const shown = h("input", { class: "secret", readonly: true, value: secret, "aria-label": t("secret.label"), type: "text", spellcheck: "false" });
    const told = h("span", { role: "status" });
    const copy = async () => {
      shown.select();
      try {
        await navigator.clipboard.writeText(secret);
        fill(told, t("secret.copied"));
      } catch {
        fill(told, t("secret.selected"));
      }
    };
    const dialog = open(title, h("p", {}, t("secret.once")), shown,
      h("div", { class: "actions" }, told, button(t("secret.copy"), copy), button(t("secret.stored"), () => dialog.close(), "primary")));
    // The escape key must not lose what can't be shown again.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => resolve());
    shown.select();
  });
}

/** Tells what was done, for some seconds. */
export function tell(text) {
  const place = document.getElementById("told");
  fill(place, text);
  setTimeout(() => place.textContent === text && fill(place), 6_000);
}
