// Limits of a key's own, as lines of text: KEY=VALUE, where dots name the keys of a table and a value is JSON or a text.

/** The lines of a table of limits. */
export function limitLines(limits, prefix = "") {
  return Object.entries(limits ?? {}).flatMap(([name, value]) =>
    (typeof value === "object" && value !== null && !Array.isArray(value)
      ? limitLines(value, `${prefix}${name}.`) : [`${prefix}${name}=${JSON.stringify(value)}`]));
}

/** The table that lines of text say. Limits of `before` that no line has are null, which takes them away. */
export function limitsOf(text, before = undefined) {
  const [table, asked] = [{}, lines(text)];
  const gone = limitLines(before).map((line) => line.split("=")[0]).filter((name) => !asked.some(([other]) => other === name));
  for (const [path, value] of [...gone.map((name) => [name, null]), ...asked]) {
    const names = path.split(".");
    const last = names.pop();
    let place = table;
    for (const name of names) place = place[name] ??= {};
    place[last] = value;
  }
  return table;
}

function lines(text) {
  const written = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return written.map((line) => {
    const at = line.indexOf("=");
    const [name, value] = at < 0 ? [line, ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    return [name, read(value)];
  });
}

function read(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
