// Plots as SVG. The picture is stretched to its place, so all text stands beside it as HTML.

import { fill, h, s } from "./elements.js";
import { figure } from "./figures.js";

const WIDTH = 600;
const HEIGHT = 120;
// Part of the height that stays free for the label.
const ROOM = 1.1;

/**
 * A plot of lines, or of bars that stand on each other.
 *
 * `series` is `[{ name, values }]`, `labels` has a text for each place on the axis, and `show` writes a value. A value of
 * undefined is a gap.
 */
export function plot({ title, series, labels, show = figure, kind = "line", note = "" }) {
  const columns = labels.length;
  const sums = labels.map((_, at) => series.reduce((sum, { values }) => sum + (values[at] ?? 0), 0));
  const tops = kind === "bar" ? sums : series.flatMap(({ values }) => values.filter((value) => value !== undefined));
  const top = ceiling(ROOM * Math.max(0, ...tops));
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    const y = HEIGHT * part;
    picture.append(s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  picture.append(...(kind === "bar" ? bars(series, columns, top) : lines(series, columns, top)));
  const cursor = s("line", { class: "cursor", x1: -10, x2: -10, y1: 0, y2: HEIGHT });
  picture.append(cursor);
  const legend = h("ul", { class: "legend" });
  const when = h("span", { class: "when" });
  const tell = (at) => {
    const value = (values) => (values[at] === undefined ? "–" : show(values[at]));
    fill(when, at === columns - 1 && kind === "line" ? "" : labels[at] ?? "");
    fill(legend, series.map(({ name, values }, color) =>
      h("li", {}, h("span", { class: `key c${color % COLORS}` }), `${name} `, h("b", {}, value(values)))));
  };
  tell(columns - 1);
  const point = (event) => {
    const box = picture.getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(1, box.width);
    const at = Math.min(columns - 1, Math.max(0, kind === "bar" ? Math.floor(share * columns) : Math.round(share * (columns - 1))));
    const x = String(kind === "bar" ? ((at + 0.5) * WIDTH) / columns : (at * WIDTH) / Math.max(1, columns - 1));
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    tell(at);
  };
  const leave = () => {
    cursor.setAttribute("x1", "-10");
    cursor.setAttribute("x2", "-10");
    tell(columns - 1);
  };
  const frame = h("div", { class: "frame", on: { pointermove: point, pointerleave: leave } }, picture,
    h("span", { class: "top" }, show(top)));
  return h("figure", { class: "plot" },
    h("figcaption", {}, h("span", { class: "title" }, title), note && h("span", { class: "note" }, note), when),
    frame,
    h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, labels[0] ?? ""), h("span", {}, labels.at(-1) ?? "")),
    legend);
}

function lines(series, columns, top) {
  return series.map(({ values }, color) => {
    let path = "";
    let pen = "M";
    values.forEach((value, at) => {
      if (value === undefined) {
        pen = "M";
        return;
      }
      const x = (at * WIDTH) / Math.max(1, columns - 1);
      const y = HEIGHT - (HEIGHT * value) / top;
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      // A point without neighbours is shown as a short stroke.
      if (pen === "M") path += "h0.01";
      pen = "L";
    });
    return s("path", { class: `line c${color % COLORS}`, d: path });
  });
}

function bars(series, columns, top) {
  const width = WIDTH / Math.max(1, columns);
  const heights = new Array(columns).fill(0);
  return series.flatMap(({ values }, color) => values.map((value, at) => {
    const height = (HEIGHT * (value ?? 0)) / top;
    heights[at] += height;
    const size = { x: (at * width + width * 0.1).toFixed(1), y: (HEIGHT - heights[at]).toFixed(1) };
    return s("rect", { class: `bar c${color % COLORS}`, ...size, width: (width * 0.8).toFixed(1), height: height.toFixed(1) });
  }));
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

/** Colours that the style sheet has. */
export const COLORS = 6;
