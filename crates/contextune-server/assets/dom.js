// Small helpers to build the page. Names come from users: they only ever become text nodes and attributes.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`class`, `on…` listeners, attributes) and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Shows an error where it belongs, or takes it away. */
export function say(place, message = "") {
  place.textContent = message;
  place.hidden = message === "";
}

/** A round button with a cross. */
export function cross(label, onclick) {
  const lines = drawn("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, drawn("path", { d: "M3 3l10 10M13 3L3 13" }));
  return element("button", { type: "button", class: "round", "aria-label": label, title: label, onclick }, lines);
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
