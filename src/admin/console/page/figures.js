// Numbers, money and times as people read them.

import { h } from "./elements.js";
import { language } from "./words.js";

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat(language, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export const count = (value) => whole.format(value);

/** A rate or a share, to three digits. */
export const figure = (value) => (Number.isFinite(value) ? short.format(value) : "–");

export const percent = (share) => (Number.isFinite(share) ? `${figure(100 * share)} %` : "–");

/** A time in seconds, in the unit that reads best. */
export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 0.001) return `${figure(value * 1e6)} µs`;
  if (value < 1) return `${figure(value * 1e3)} ms`;
  if (value < 120) return `${figure(value)} s`;
  return value < 7200 ? `${figure(value / 60)} min` : `${figure(value / 3600)} h`;
}

/** Decimal text, exact: digits in groups, and no more than two zeros behind the last one. */
export function money(text, currency = "") {
  if (text === null || text === undefined) return "–";
  const [, sign, before, after = ""] = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text) ?? [];
  if (before === undefined) return text;
  const groups = before.replace(/\B(?=(\d{3})+$)/g, ",");
  const decimals = after.replace(/0+$/, "").padEnd(2, "0");
  return `${sign ? "−" : ""}${groups}.${decimals}${currency ? ` ${currency}` : ""}`;
}

/** Units of the ledger, such as `5 video_second`. */
export function units(all) {
  const one = ([unit, amount]) => `${amount.replace(/\.?0+$/, "")} ${unit}`;
  return Object.entries(all ?? {}).map(one).join(", ") || "–";
}

/** A moment in the browser's zone; the exact one is its title. */
export function moment(text) {
  const at = new Date(text ?? NaN);
  if (Number.isNaN(at.getTime())) return "–";
  return h("time", { datetime: text, title: text }, dayAndClock.format(at));
}

export const clockTime = (millis) => clock.format(millis);
