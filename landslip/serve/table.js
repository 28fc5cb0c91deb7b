// The table of landslides, which one is selected, and what is known of it.

import { $, area, element, figure, grouped, say } from "./dom.js";
import { fly } from "./map.js";
import { highlight } from "./outlines.js";
import { areaOf, baseThreshold, drawnIds, meanOf, standingOf, state } from "./state.js";

const NAMES = { // of columns, and their units
  area_m2: ["Area", "area"], perimeter_m: ["Perimeter", "m"], pixels: ["Pixels", ""],
  length_m: ["Length", "m"], width_m: ["Width", "m"], height_drop_m: ["Height drop", "m"],
  slope_mean: ["Mean slope", "°"], slope_max: ["Steepest slope", "°"],
  elevation_min: ["Lowest", "m"], elevation_max: ["Highest", "m"], lithology: ["Lithology", ""],
  distance_to_river_m: ["Distance to river", "m"], distance_to_fault_m: ["Distance to fault", "m"],
  probability_mean: ["Mean probability", ""], probability_min: ["Lowest probability", ""],
  probability_max: ["Highest probability", ""],
  area_low_m2: ["Area, at least", "area"], area_high_m2: ["Area, at most", "area"],
  scene: ["Scene", ""], date: ["Date", ""], model_sha256: ["Model", ""],
};
const HIDDEN = new Set(["id", "review", "fid"]);
const CHUNK = 200; // rows of the table that are added at a time
const HEAD = 34; // pixels of the table's head, which stays while its rows are scrolled

const ORDERS = { doubt: doubtOf, area: (id) => -(areaOf(id) ?? 0), id: (id) => id };

export const nameOf = (id) => (id < 0 ? `new landslide ${-id}` : `landslide ${id}`);
export const capital = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

// -- rows -------------------------------------------------------------------------------------------------------------

export function sortTable() {
  const key = ORDERS[$("sort").value], only = $("filter").value;
  const listed = (id) => only === "all" || id === state.selected || (only === "open") === (standingOf(id) === "open");
  const rows = [...state.landslides.keys(), ...drawnIds()].filter(listed).map((id) => [key(id), id]);
  rows.sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1));
  state.order = rows.map(([, id]) => id);
  table();
}

// Sort anew, from the first rows on.
export function beginTable() {
  state.shownRows = CHUNK;
  sortTable();
}

export function showMore() {
  state.shownRows += CHUNK;
  table();
}

// How far a landslide's mean probability lies from the threshold; what was drawn has none and comes last.
function doubtOf(id) {
  const mean = meanOf(id);
  if (mean === null) return id < 0 ? Infinity : 0;
  return Math.abs(mean - (baseThreshold() ?? 0.5));
}

function table() {
  const { landslides, order, selected } = state, at = selected === null ? -1 : order.indexOf(selected);
  if (at >= state.shownRows) state.shownRows = Math.ceil((at + 1) / CHUNK) * CHUNK;
  $("rows").replaceChildren(...order.slice(0, state.shownRows).map(row));
  $("more").hidden = order.length <= state.shownRows;
  $("more").textContent = `Show more (${grouped(order.length - state.shownRows)} left)`;
  $("progress").textContent = progress();
  $("table-area").hidden = !landslides.size && !drawnIds().length;
  mark();
}

function progress() {
  const { landslides } = state, drawn = drawnIds().length;
  const decided = [...landslides.keys()].filter((id) => standingOf(id) !== "open").length;
  if (landslides.size) return `${grouped(decided)} of ${grouped(landslides.size)} decided`;
  return drawn ? `${grouped(drawn)} drawn` : "";
}

function row(id) {
  const short = id < 0 ? `new ${-id}` : String(id), mean = meanOf(id), standing = standingOf(id);
  const line = element("tr", null, { "data-id": id }), first = element("td"), last = element("td");
  first.append(element("button", short, { type: "button", "aria-label": `Landslide ${short}` }));
  last.append(element("span", standing, { class: `state state-${standing}` }));
  line.append(first, element("td", area(areaOf(id))), element("td", mean === null ? "–" : mean.toFixed(3)), last);
  line.addEventListener("click", () => select(id));
  return line;
}

// Mark the row of the selected landslide, and scroll the table to it.
function mark() {
  for (const line of $("rows").children) {
    if (Number(line.dataset.id) === state.selected) {
      line.setAttribute("aria-current", "true");
      const box = line.closest(".scroll"); // not scrollIntoView, which would move the page on a phone
      const above = line.offsetTop - HEAD, below = line.offsetTop + line.offsetHeight - box.clientHeight;
      if (box.scrollTop > above) box.scrollTop = above;
      else if (box.scrollTop < below) box.scrollTop = below;
    } else line.removeAttribute("aria-current");
  }
}

// -- the selected landslide -------------------------------------------------------------------------------------------

// Select a landslide, or none (null).
export function select(id, { fly: flies = true } = {}) {
  if (state.drawing) return;
  state.selected = id;
  if (id !== null && !state.order.includes(id)) sortTable();
  else table();
  details();
  highlight();
  if (id !== null && flies) fly(id);
}

// Select the next landslide of the table (1), or the one before (-1).
export function step(by) {
  const { landslides, order, selected } = state;
  if (!order.length) {
    say(landslides.size ? "The table shows no landslide." : "There is no landslide to go to yet. N draws one.");
    return;
  }
  const at = selected === null ? -1 : order.indexOf(selected), end = by > 0 ? 0 : order.length - 1;
  const to = at === -1 ? end : at + by;
  if (to < 0 || to >= order.length) say(`This is the ${by > 0 ? "last" : "first"} landslide of the table.`);
  else select(order[to]);
}

// The next open landslide after one, beginning again at the top; null where there is none.
export function nextOpen(from) {
  const { landslides, order } = state, at = order.indexOf(from);
  const others = [...order.slice(at + 1), ...order.slice(0, Math.max(0, at))];
  return others.find((id) => standingOf(id) === "open" && landslides.has(id)) ?? null;
}

export function details() {
  const id = state.selected;
  $("selected-head").textContent = id === null ? "No landslide selected" : capital(nameOf(id));
  $("selected-state").replaceChildren(standingLine(id));
  for (const button of ["accept", "reject", "redraw"]) $(button).disabled = id === null;
  $("attributes").replaceChildren(...(id === null ? [] : attributes(id)));
  $("attributes-area").hidden = id === null;
  $("undo").disabled = !state.undoable.length;
  $("redo").disabled = !state.redoable.length;
}

function standingLine(id) {
  if (id === null) {
    return state.order.length
      ? "Click an outline or a row of the table, or press J."
      : "There is none yet. Draw those that you see: Draw new (N).";
  }
  const review = state.reviews.get(id), standing = standingOf(id), decided = review?.decided;
  const when = decided && standing !== "open" ? ` on ${decided.slice(0, 10)}, ${decided.slice(11, 16)} UTC` : "";
  const note = review?.note ? `: ${review.note}` : "";
  return element("span", `${capital(standing)}${when}${note}`, { class: `state state-${standing}` });
}

function attributes(id) {
  const lines = [];
  if (id < 0 || standingOf(id) === "redrawn") {
    lines.push(element("dt", id < 0 ? "Area" : "Area, redrawn"), element("dd", area(state.reviews.get(id)?.area_m2)));
  }
  for (const [key, value] of Object.entries(state.landslides.get(id)?.attributes ?? {})) {
    if (HIDDEN.has(key) || value === null) continue;
    const [name, unit] = NAMES[key] ?? [key.replaceAll("_", " "), ""];
    const text = key.endsWith("sha256") ? String(value).slice(0, 12) : figure(value, unit);
    lines.push(element("dt", name), element("dd", text));
  }
  return lines;
}
