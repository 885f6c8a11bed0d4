// Webhooks: deliveries that wait, were made or given up, and a test for each tenant.

import { button, fill, h, place } from "../elements.js";
import { ask, field, tell, values } from "../dialog.js";
import { get, mayOperate, send } from "../session.js";
import { pages } from "../table.js";
import { deliveryTable } from "./deliveries.js";
import { t, worded } from "../words.js";

const DELIVERIES = "/admin/webhooks/deliveries";
const TEST = "/admin/webhooks/test";
const STATES = ["waiting", "delivered", "given_up"];

export const title = () => t("view.webhooks");

export function show(body, { query, signal }) {
  const [tenant, state] = [query.get("tenant") ?? "", query.get("state") ?? ""];
  const form = h("form", { class: "filters" },
    field({ name: "tenant", label: t("column.tenant"), value: tenant }),
    field({ name: "state", label: t("column.state"), type: "choice", value: state,
      choices: [["", t("list.any")], ...STATES.map((one) => [one, worded("delivery", one)])] }),
    h("button", { type: "submit" }, t("list.narrow")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = place("webhooks", undefined, values(form));
  });
  const list = pages({
    signal,
    load: async (after) => {
      const { deliveries, next } = await get(DELIVERIES, { tenant, state, after, limit: 100 }, signal);
      return { rows: deliveries, next };
    },
    show: (rows) => deliveryTable(rows, () => list.renew()),
  });
  const test = mayOperate() &&
    h("div", { class: "actions" }, button(t("webhooks.test"), () => tryOut(tenant, list.renew)));
  fill(body, test, form, list.element);
}

async function tryOut(tenant, renew) {
  const done = await ask({
    title: t("webhooks.test"), text: t("webhooks.test_text"), confirm: t("webhooks.test"),
    fields: [{ name: "tenant", label: t("column.tenant"), value: tenant, required: true }],
    act: (given) => send("POST", TEST, given),
  });
  if (done === undefined) return;
  tell(t("webhooks.tested"));
  renew();
}
