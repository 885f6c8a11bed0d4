// Deliveries of webhooks, as a table.

import { button, h, link } from "../elements.js";
import { moment } from "../figures.js";
import { ask, tell } from "../dialog.js";
import { mayOperate, path, send } from "../session.js";
import { table } from "../table.js";
import { t, worded } from "../words.js";

const REDELIVER = "/admin/webhooks/deliveries/{id}/redeliver";

export function deliveryTable(rows, renew) {
  const again = async ({ id }) => {
    const done = await ask({
      title: t("webhooks.redeliver"), text: t("webhooks.redeliver_text", { id }), confirm: t("webhooks.redeliver"),
      act: () => send("POST", path(REDELIVER, id)),
    });
    if (done === undefined) return;
    tell(t("webhooks.redelivered"));
    renew();
  };
  return table({
    caption: t("view.webhooks"), rows, empty: t("webhooks.none"),
    columns: [
      { name: t("column.delivery"), cell: ({ id }) => h("code", {}, id) },
      { name: t("column.event"), cell: ({ event }) => event },
      { name: t("column.state"), cell: ({ state }) => stateMark(state) },
      { name: t("column.tenant"), cell: ({ tenant }) => tenant && link(tenant, "tenant", tenant) },
      { name: t("column.url"), cell: ({ url }) => url },
      { name: t("column.tries"), kind: "number", cell: ({ tries }) => tries },
      { name: t("column.last_answer"), cell: ({ status, problem }) => [status, problem].filter(Boolean).join(" ") || "–" },
      { name: t("column.created"), cell: ({ created_at }) => moment(created_at) },
      { name: t("column.next"), cell: ({ due_at }) => moment(due_at) },
      mayOperate() && { name: t("column.act"), cell: (row) => button(t("webhooks.redeliver"), () => again(row)) },
    ].filter(Boolean),
  });
}

function stateMark(state) {
  const kind = { delivered: "good", given_up: "bad", waiting: "busy" }[state] ?? "";
  return h("span", { class: `mark ${kind}` }, worded("delivery", state));
}
