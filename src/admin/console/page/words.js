// Words of the page, in the first of the browser's languages that there is.

import { words as english } from "./words/en.js";
import { words as chinese } from "./words/zh.js";

const first = navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find((tag) => tag === "en" || tag === "zh");
const words = first === "zh" ? chinese : english;

/** The language as a tag for the document and for numbers. */
export const language = first === "zh" ? "zh-CN" : "en";

/** The text of a key, with `{name}` replaced by the value of that name. */
export function t(key, values = {}) {
  const text = words[key];
  if (text === undefined) throw new Error(`no words for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The text for a value that the gateway names; the value itself, where a newer gateway has one without words. */
export const worded = (group, value) => words[`${group}.${value}`] ?? value;
