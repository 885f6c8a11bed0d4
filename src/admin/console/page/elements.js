// Elements of the page. Text becomes text nodes, and no function here takes markup, so that what a tenant writes into a
// name, a note or an error can never become a part of the page.

const SVG = "http://www.w3.org/2000/svg";

// Attributes that may be set from here. None of them runs a script or fetches anything.
const ATTRIBUTES = new Set([
  "autocomplete", "class", "cols", "colspan", "d", "datetime", "dir", "disabled", "download", "fill", "for", "height", "href",
  "id", "inputmode", "lang", "maxlength", "name", "open", "pattern", "placeholder", "preserveAspectRatio", "readonly",
  "required", "role", "rows", "scope", "selected", "spellcheck", "step", "tabindex", "title", "type", "value", "viewBox",
  "width", "x", "x1", "x2", "y", "y1", "y2",
]);

/** An element of HTML. `attributes.on` maps events to listeners. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== undefined && value !== null && value !== false) {
      if (!ATTRIBUTES.has(name) && !name.startsWith("aria-") && !name.startsWith("data-")) {
        throw new Error(`the attribute ${name} is not allowed`);
      }
      if (name === "href" && !value.startsWith("#")) throw new Error("links lead to places of this page alone");
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...parts(children));
  return element;
}

/** Replaces all that is in an element. */
export function fill(element, ...children) {
  element.replaceChildren(...parts(children));
}

function parts(children) {
  const present = children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
  return present.map((child) => (child instanceof Node ? child : String(child)));
}

/** A link to a place of this page: its view, an argument, and a query. */
export function link(text, view, argument, query) {
  return h("a", { href: place(view, argument, query) }, text);
}

/** The address of a place of this page. */
export function place(view, argument, query = {}) {
  const path = argument === undefined ? view : `${view}/${encodeURIComponent(argument)}`;
  const set = Object.entries(query).filter(([, value]) => value);
  return `#/${path}${set.length > 0 ? `?${new URLSearchParams(set)}` : ""}`;
}

export function button(text, act, kind = "") {
  return h("button", { type: "button", class: kind, on: { click: act } }, text);
}

/** Stores text as a file. */
export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
