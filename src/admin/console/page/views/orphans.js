// Orphans: tasks on an account's list that no client was told of.

import { button, fill, h } from "../elements.js";
import { moment } from "../figures.js";
import { ask, tell } from "../dialog.js";
import { get, mayOperate, path, send } from "../session.js";
import { pages, table } from "../table.js";
import { statusMark } from "./tasks.js";
import { t } from "../words.js";

export const title = () => t("view.orphans");

export function show(body, { signal }) {
  const list = pages({
    signal,
    load: async (after) => {
      const { orphans, next } = await get("/admin/orphans", { after, limit: 100 }, signal);
      return { rows: orphans, next };
    },
    show: (rows) => table({
      caption: t("view.orphans"), rows, empty: t("orphans.none"),
      columns: [
        { name: t("column.task"), cell: ({ task_id }) => h("code", {}, task_id) },
        { name: t("column.account"), cell: ({ account }) => account },
        { name: t("column.model"), cell: ({ model }) => model },
        { name: t("column.status"), cell: ({ status }) => statusMark(status) },
        { name: t("column.submitted"), cell: ({ submitted_at }) => moment(submitted_at) },
        { name: t("orphans.own_key"), cell: ({ own_key }) => (own_key ? t("list.yes") : t("list.no")) },
        mayOperate() && { name: t("column.act"), cell: (orphan) => button(t("orphans.assign"), () => assign(orphan, list.renew)) },
      ].filter(Boolean),
    }),
  });
  fill(body, h("p", { class: "note" }, t("orphans.what")), list.element);
}

async function assign({ account, task_id: id }, renew) {
  const done = await ask({
    title: t("orphans.assign_title", { id }), text: t("orphans.assign_text"), confirm: t("orphans.assign"),
    fields: [
      { name: "tenant", label: t("column.tenant"), required: true },
      { name: "key_id", label: t("column.key"), required: true },
    ],
    act: (given) => send("POST", path("/admin/orphans/{account}/{task_id}/assign", account, id), given),
  });
  if (done === undefined) return;
  tell(t("orphans.assigned", { id }));
  renew();
}
