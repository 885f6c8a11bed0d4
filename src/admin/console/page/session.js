// The session: an admin token in this module's memory alone, and the calls that carry it. A reload of the page ends it.

/** A call that was refused, or got no answer. */
export class Refusal extends Error {
  constructor(status, code, message, body) {
    super(message);
    Object.assign(this, { status, code, body });
  }
}

// Reports read the whole ledger, and the gateway runs two at a time: this page asks for one after another.
const REPORTS = "/admin/usage";
const BUSY = "reports_busy";
const MOST_TRIES = 5;
const PAUSE = 700;

let token = null;
let who = null;
let report = Promise.resolve();
let ended = () => {};

/** Tries a token; it is kept if it opens the API. */
export async function signIn(text, whenEnded) {
  token = text;
  try {
    who = await get("/admin/session");
    ended = whenEnded;
  } catch (problem) {
    token = null;
    throw problem;
  }
}

export function signOut() {
  token = null;
  who = null;
}

export const isSignedIn = () => token !== null && who !== null;

/** Name of the token, as the audit trail tells it. */
export const name = () => who?.name ?? "";

/** True if the token may change things. */
export const mayOperate = () => who?.role === "operate";

/** The answer to GET. Parameters without a value are left out. */
export const get = (path, query = {}, signal = undefined) => call("GET", path + search(query), undefined, signal);

/** The answer to a call that changes something. */
export const send = (method, path, body) => call(method, path, body);

/** Text that is no JSON: a table, or metrics. */
export function text(path, query = {}, signal = undefined) {
  const fetched = async () => {
    const answer = await ask("GET", path + search(query), undefined, signal);
    const read = await answer.text();
    if (!answer.ok) throw refusal(answer, parsed(read));
    return read;
  };
  return path.startsWith(REPORTS) ? inTurn(fetched) : fetched();
}

/** A path with its names, each encoded. */
export const path = (template, ...names) => template.replace(/\{\w+\}/g, () => encodeURIComponent(names.shift()));

function search(query) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length > 0 ? `?${new URLSearchParams(set)}` : "";
}

async function call(method, address, body, signal) {
  return address.startsWith(REPORTS) && method === "GET" ? inTurn(() => one(method, address, body, signal)) : one(method, address, body, signal);
}

/** Runs a report when those before it have ended, and again while others keep the gateway busy. */
function inTurn(ask) {
  const asked = report.then(async () => {
    for (let tried = 1; ; tried++) {
      try {
        return await ask();
      } catch (problem) {
        if (problem.code !== BUSY || tried === MOST_TRIES) throw problem;
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
  });
  report = asked.catch(() => {});
  return asked;
}

async function one(method, address, body, signal) {
  const answer = await ask(method, address, body, signal);
  const read = parsed(await answer.text());
  if (!answer.ok) throw refusal(answer, read);
  return read;
}

async function ask(method, address, body, signal) {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) options.body = JSON.stringify(body);
  try {
    return await fetch(address, options);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refusal(0, "unreachable", problem.message);
  }
}

function refusal(answer, body) {
  if (answer.status === 401 && isSignedIn()) ended();
  return new Refusal(answer.status, body?.code ?? "", body?.message ?? answer.statusText, body);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
