// Elements of the page, words to whoever looks at it, numbers as text, and colours.

const STATUS_TIME = 4500; // ms that a message is shown

export const $ = (id) => document.getElementById(id);

// A colour of landslip/plots/palette.py, which the server writes into page.css.
export const palette = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

export function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// An item of a legend: a patch of colour and what it means.
export function swatched(colour, text) {
  const item = element("li"), swatch = element("span", null, { class: "swatch" });
  swatch.style.background = colour;
  item.append(swatch, text);
  return item;
}

// -- words ------------------------------------------------------------------------------------------------------------

// What stands above the panel until it is no longer so; "" takes it away.
export function warn(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

let statusTimer;
export function say(text) {
  $("status").textContent = text;
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => { $("status").textContent = ""; }, STATUS_TIME);
}

const timers = new Map();

// Do some work after a while, once, however often it was asked for in between.
export function later(work, wait) {
  clearTimeout(timers.get(work));
  timers.set(work, setTimeout(work, wait));
}

// -- numbers ----------------------------------------------------------------------------------------------------------

export function grouped(value, digits = 0) {
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

export function area(m2) {
  if (m2 === null || m2 === undefined) return "–";
  const three = (value) => (value >= 100 ? grouped(value) : value.toPrecision(3));
  if (m2 >= 1e6) return `${three(m2 / 1e6)} km²`;
  return m2 >= 1e4 ? `${three(m2 / 1e4)} ha` : `${grouped(m2)} m²`;
}

export function figure(value, unit) {
  if (value === null || value === undefined || value === "") return "–";
  if (unit === "area") return area(value);
  if (typeof value !== "number") return String(value);
  const whole = Number.isInteger(value) || Math.abs(value) >= 100;
  const text = whole ? grouped(value) : String(+value.toPrecision(3));
  if (unit === "°") return `${text}°`;
  return unit ? `${text} ${unit}` : text;
}
