// The page of `landslip serve`: what its buttons, keys and map do, and how it begins. Needs Leaflet as `L`.

import { ask } from "./api.js";
import { $, element, grouped, later, warn } from "./dom.js";
import { corner, cornerAtCross, finish, nudge, removeCorner, rubber, startDrawing, stopDrawing } from "./drawing.js";
import { exchange, fly, makeMap, moveSwipe, show, showSite } from "./map.js";
import { highlight, refresh } from "./outlines.js";
import { apply, decide, poll, redo, undo } from "./review.js";
import { count, recount, setThreshold, writeThreshold } from "./scores.js";
import { findHistory, keepSettings, lastSettings } from "./settings.js";
import { baseThreshold, state } from "./state.js";
import { beginTable, details, select, showMore, step } from "./table.js";

const POLL = 4000; // ms between questions for what other windows decided
const STEP = 80, SMALL_STEP = 8; // pixels of the screen that an arrow key moves the map by while drawing
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SWIPES = {
  ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1,
};
const KEYS = {
  j: () => step(1), k: () => step(-1), a: () => decide("accepted"), r: () => decide("rejected"),
  e: () => startDrawing("redrawn"), n: () => startDrawing("drawn"), u: undo, U: redo,
  f: () => state.selected !== null && fly(state.selected), h: showSite, o: () => $("show-outlines").click(),
  "[": () => setThreshold(state.threshold - 0.01), "]": () => setThreshold(state.threshold + 0.01),
  ",": () => moveSwipe(state.swipe - 0.05), ".": () => moveSwipe(state.swipe + 0.05), x: exchange,
  "?": () => $("help").showModal(),
};
const CLICKS = {
  accept: () => decide("accepted"), reject: () => decide("rejected"),
  redraw: () => startDrawing("redrawn"), draw: () => startDrawing("drawn"), undo, redo,
  "draw-corner": cornerAtCross, "draw-back": removeCorner, "draw-done": finish, "draw-cancel": stopDrawing,
  "show-help": () => $("help").showModal(), "close-help": () => $("help").close(),
  "threshold-reset": () => setThreshold(baseThreshold(), false), more: showMore,
};
const PARTS = { test: "test part", validation: "validation part", train: "training part", all: "all mapped ground" };
const narrow = matchMedia("(max-width: 760px)");

begin().catch((error) => warn(error.message));

async function begin() {
  const run = await ask("/api/run");
  state.run = run;
  document.title = `${run.name} – landslip`;
  $("name").textContent = run.name;
  state.layers = new Map(run.layers.map((layer) => [layer.key, layer]));
  state.threshold = run.threshold;
  const settings = lastSettings();
  $("shortcuts").checked = settings.shortcuts ?? true;
  $("advance").checked = settings.advance ?? true;
  $("sort").value = ["doubt", "area", "id"].includes(settings.sort) ? settings.sort : "doubt";
  offerChoices();
  arrange();
  makeMap();
  wireMap();
  wire();
  wireSwipe();
  const layersShown = firstLayers(settings);
  if (run.warnings.length) warn(run.warnings.join(" "));
  if (state.threshold !== null) {
    $("threshold-area").hidden = false;
    setThreshold(state.threshold, false);
    if (run.parts.length) { $("scores-area").hidden = false; count(); }
  }
  await fetchLandslides();
  $("selected-area").hidden = false;
  beginTable();
  details();
  tellTheWay();
  setInterval(poll, POLL);
  await layersShown;
  await refresh();
  document.body.dataset.ready = "yes";
}

async function fetchLandslides() {
  const [rows, decided] = await Promise.all([ask("/api/landslides"), ask("/api/reviews")]);
  state.landslides = new Map(rows.landslides.map((one) => [one.id, one]));
  // What is drawn belongs to no threshold: the map's own candidates are shown.
  if (!state.landslides.size && state.threshold !== null) {
    state.run.inventory_threshold = null;
    setThreshold(state.threshold, false);
  }
  decided.reviews.forEach(apply);
  findHistory();
}

// -- what there is to choose from -------------------------------------------------------------------------------------

function offerChoices() {
  for (const side of ["left", "right"]) {
    const groups = new Map();
    for (const layer of state.run.layers) {
      if (!groups.has(layer.group)) groups.set(layer.group, element("optgroup", null, { label: layer.group }));
      groups.get(layer.group).append(element("option", layer.title, { value: layer.key }));
    }
    const none = side === "right" ? [element("option", "None", { value: "" })] : [];
    $(`layer-${side}`).replaceChildren(...none, ...groups.values());
    $(`layer-${side}`).addEventListener("change", (event) => show(side, event.target.value));
  }
  $("part").replaceChildren(...state.run.parts.map((part) => element("option", PARTS[part], { value: part })));
}

// The layers that were shown last, else the image and what the map says of it.
function firstLayers({ left, right }) {
  const { layers, run } = state, has = (key) => layers.has(key);
  const first = [left, "true-colour"].find(has) ?? run.layers[0].key;
  const second = right === "" ? "" : [right, "agreement", "probability"].find(has) ?? "";
  return Promise.all([show("left", first), show("right", second)]);
}

// On a phone the buttons follow the map; beside it, what is looked at comes first.
function arrange() {
  const looking = ["layers-area", "threshold-area"], reviewing = ["selected-area", "table-area"];
  $("panel").append(...(narrow.matches ? [...reviewing, ...looking] : [...looking, ...reviewing]).map($));
}

// What to do where no landslide is in an inventory yet.
function tellTheWay() {
  let next = "To train on it, name that file under [landslides] in site.toml and prepare the site again. All other "
    + "ground inside the outline then counts as no landslide.";
  if (state.threshold !== null) {
    next = "The map is in no inventory yet: `landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg` "
      + "makes one to review (where you have drawn, with --overwrite: what is drawn stays).";
  } else if (state.layers.has("reference")) next = "`landslip correct` adds it to the label.";
  $("no-inventory").hidden = state.landslides.size > 0;
  $("no-inventory").textContent = `What you draw is saved in inventory/landslides.gpkg of this run. ${next}`;
}

// -- what buttons, the map and keys do --------------------------------------------------------------------------------

function wire() {
  const on = (id, kind, work) => $(id).addEventListener(kind, work);
  for (const [id, work] of Object.entries(CLICKS)) on(id, "click", () => work());
  for (const id of ["threshold", "threshold-number"]) {
    on(id, "input", (event) => setThreshold(event.target.valueAsNumber));
  }
  on("threshold-number", "blur", writeThreshold);
  on("part", "change", recount);
  on("show-outlines", "change", refresh);
  for (const id of ["sort", "filter"]) on(id, "change", () => { beginTable(); keepSettings(); });
  for (const id of ["shortcuts", "advance"]) on(id, "change", keepSettings);
  document.addEventListener("keydown", pressed);
  document.addEventListener("visibilitychange", () => poll());
  narrow.addEventListener("change", arrange);
}

function wireMap() {
  const { map, outlines } = state;
  map.on("moveend", () => later(refresh, 80));
  map.on("zoomend", highlight);
  map.on("mousemove", ({ latlng }) => {
    $("position").textContent = `x ${grouped(latlng.lng)}  y ${grouped(latlng.lat)} m`;
    if (state.drawing) rubber(latlng);
  });
  map.on("mouseout", () => { $("position").textContent = ""; });
  map.on("click", ({ latlng }) => { if (state.drawing) corner(latlng); });
  map.on("dblclick", () => { if (state.drawing) finish(); });
  outlines.on("click", (event) => {
    if (state.drawing) return;
    L.DomEvent.stopPropagation(event);
    select(event.propagatedFrom.landslide, { fly: false });
  });
}

function wireSwipe() {
  const handle = $("swipe");
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = $("map-area").getBoundingClientRect();
    moveSwipe((event.clientX - box.left) / box.width);
  });
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in SWIPES)) return;
    event.preventDefault();
    moveSwipe(state.swipe + SWIPES[event.key]);
  });
}

function pressed(event) {
  if ($("help").open) return;
  const typing = event.target.matches("input[type=text], input[type=number], select, textarea");
  const control = (event.ctrlKey || event.metaKey) && !event.altKey;
  if (control && !typing) {
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
    return;
  }
  if (event.altKey || control) return;
  if (event.key === "Escape") {
    if (state.drawing) stopDrawing();
    else if (!typing) select(null);
    return;
  }
  if (state.drawing && !typing) {
    pressedDrawing(event);
    return;
  }
  if (typing || !$("shortcuts").checked) return;
  const work = KEYS[event.key];
  if (!work || ("[]".includes(event.key) && state.threshold === null)) return;
  event.preventDefault();
  work();
}

function pressedDrawing(event) {
  const { key } = event;
  if (key === "Enter" && !event.target.matches("button")) {
    event.preventDefault();
    finish();
  } else if (key === "Backspace") {
    event.preventDefault();
    removeCorner();
  } else if (key.toLowerCase() === "c") cornerAtCross();
  else if (key in ARROWS && !event.target.matches("input, [role=slider]")) {
    event.preventDefault();
    nudge(ARROWS[key], event.shiftKey ? SMALL_STEP : STEP);
  } else if (key === "+" || key === "-") state.map.zoomIn(key === "+" ? 1 : -1, { animate: false });
}
