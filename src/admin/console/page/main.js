// The page: sign in, the frame around the views, and the way from one to another.

import { button, fill, h, place } from "./elements.js";
import { field, problemText, values } from "./dialog.js";
import * as samples from "./samples.js";
import { isSignedIn, name, signIn, signOut, mayOperate } from "./session.js";
import { language, t } from "./words.js";
import * as audit from "./views/audit.js";
import * as configuration from "./views/configuration.js";
import * as found from "./views/find.js";
import * as keys from "./views/keys.js";
import * as now from "./views/now.js";
import * as orphans from "./views/orphans.js";
import * as task from "./views/task.js";
import * as tasks from "./views/tasks.js";
import * as tenant from "./views/tenant.js";
import * as tenants from "./views/tenants.js";
import * as usage from "./views/usage.js";
import * as webhooks from "./views/webhooks.js";

// Views in the order of the navigation.
const VIEWS = [
  ["now", now],
  ["tasks", tasks],
  ["tenants", tenants],
  ["keys", keys],
  ["usage", usage],
  ["orphans", orphans],
  ["webhooks", webhooks],
  ["audit", audit],
  ["configuration", configuration],
];

// Views of one thing: the view, and the entry of the navigation that it belongs to.
const DETAILS = { task: [task, "tasks"], tenant: [tenant, "tenants"], find: [found, "find"] };

let leave = new AbortController();

function start() {
  document.documentElement.lang = language;
  document.title = t("app.title");
  window.addEventListener("hashchange", () => isSignedIn() && go());
  showSignIn();
}

function showSignIn(note = "") {
  leave.abort();
  samples.stop();
  const problem = h("p", { class: "bad", role: "alert" }, note);
  const enter = h("button", { type: "submit", class: "primary" }, t("signin.enter"));
  const form = h("form", { class: "signin" },
    h("h1", {}, t("app.title")),
    field({ name: "token", label: t("signin.token"), type: "password", hint: t("signin.hint"), required: true }),
    problem, enter);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    enter.disabled = true;
    fill(problem);
    try {
      await signIn(values(form).token, () => { signOut(); showSignIn(t("signin.ended")); });
      form.reset();
      showFrame();
    } catch (failure) {
      fill(problem, failure.status === 401 ? t("signin.wrong") : problemText(failure));
    }
    enter.disabled = false;
  });
  document.body.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  fill(document.body, h("main", { class: "door" }, form));
  form.querySelector("input").focus();
}

function showFrame() {
  const entries = VIEWS.map(([key]) => h("li", {}, h("a", { href: place(key), "data-view": key }, t(`view.${key}`))));
  const state = h("span", { class: "state", id: "state" });
  const search = h("form", { class: "find", role: "search" },
    h("label", { for: "find", class: "hidden" }, t("find.label")),
    h("input", { id: "find", name: "what", type: "search", autocomplete: "off", spellcheck: "false", placeholder: t("find.label") }));
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    const what = values(search).what;
    search.reset();
    if (what) found.find(what);
  });
  const role = mayOperate() ? t("role.operate") : t("role.read");
  const who = h("span", { class: "who" }, name() ? `${name()} · ${role}` : role);
  fill(document.body,
    h("a", { class: "skip", href: "#main", on: { click: (event) => { event.preventDefault(); focusMain(); } } }, t("app.skip")),
    h("header", {}, h("a", { class: "brand", href: place("now") }, t("app.title")), state, search, who,
      button(t("signin.leave"), () => { signOut(); showSignIn(); }, "quiet")),
    h("nav", { "aria-label": t("app.views") }, h("ul", {}, entries)),
    h("main", { id: "main", tabindex: "-1" }),
    h("p", { id: "told", role: "status" }));
  samples.start();
  const life = new AbortController();
  samples.watch(() => (state.isConnected ? tellState(state) : life.abort()), life.signal);
  go();
}

async function tellState(place) {
  let told = { status: "unreachable" };
  try {
    told = await (await fetch("/readyz", { cache: "no-store", credentials: "omit" })).json();
  } catch {
    // The words for it are below.
  }
  const known = ["ready", "draining", "unreachable"].includes(told.status) ? told.status : "failing";
  const failing = (told.failing ?? []).join(", ");
  place.className = `state ${told.status === "ready" ? "good" : "bad"}`;
  fill(place, known === "failing" ? t("state.failing", { what: failing }) : t(`state.${known}`));
}

function focusMain() {
  document.getElementById("main").focus();
}

function go() {
  leave.abort();
  leave = new AbortController();
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [key, argument] = path.split("/");
  const listed = VIEWS.find(([known]) => known === key);
  const [view, section] = DETAILS[key] ?? [listed?.[1] ?? now, listed?.[0] ?? "now"];
  for (const entry of document.querySelectorAll("nav a")) {
    if (entry.dataset.view === section) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
  const main = document.getElementById("main");
  const name = argument === undefined ? undefined : decoded(argument);
  const title = view.title(name);
  document.title = `${title} · ${t("app.title")}`;
  const body = h("div", { class: "view" });
  fill(main, h("h1", {}, title), body);
  view.show(body, { name, query: new URLSearchParams(query), signal: leave.signal });
  main.scrollTop = 0;
  window.scrollTo(0, 0);
  focusMain();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

start();
