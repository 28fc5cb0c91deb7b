// The page of `landslip serve`. What is shown as decided is what the server has said it has kept, and nothing else.
"use strict";

const $ = (id) => document.getElementById(id);
const SCORES = [["f1", "F1"], ["precision", "Precision"], ["recall", "Recall"], ["kappa", "Kappa"], ["miou", "MIoU"], ["accuracy", "Accuracy"]];
const palette = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); // landslip/palette.py
const STYLES = { // told apart by dash and width too, not by colour alone
  open: { color: palette("review-open"), weight: 2 },
  accepted: { color: palette("review-accepted"), weight: 3 },
  rejected: { color: palette("review-rejected"), weight: 2, dashArray: "3 6" },
  redrawn: { color: palette("review-redrawn"), weight: 3 },
  drawn: { color: palette("review-drawn"), weight: 3, dashArray: "9 4" },
  candidate: { color: palette("candidate"), weight: 1.5 },
};
const NAMES = {
  area_m2: ["Area", "area"], perimeter_m: ["Perimeter", "m"], pixels: ["Pixels", ""], length_m: ["Length", "m"], width_m: ["Width", "m"],
  height_drop_m: ["Height drop", "m"], slope_mean: ["Mean slope", "°"], slope_max: ["Steepest slope", "°"],
  elevation_min: ["Lowest", "m"], elevation_max: ["Highest", "m"], lithology: ["Lithology", ""],
  distance_to_river_m: ["Distance to river", "m"], distance_to_fault_m: ["Distance to fault", "m"],
  probability_mean: ["Mean probability", ""], probability_min: ["Lowest probability", ""], probability_max: ["Highest probability", ""],
  area_low_m2: ["Area, at least", "area"], area_high_m2: ["Area, at most", "area"], scene: ["Scene", ""], date: ["Date", ""], model_sha256: ["Model", ""],
};
const HIDDEN = new Set(["id", "review", "fid"]);
const CHUNK = 200; // rows of the table that are added at a time
const POLL = 4000; // ms between questions for what other windows decided
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

let run, map, panes, layers, canvas;
let landslides = new Map(), reviews = new Map(), lastVersion = 0;
let order = [], shownRows = CHUNK, selected = null;
let swipe = 0.5, threshold = null, counts = null, undone = [], done = [];
let outlines, candidates, chosen, drawing = null, sides = { left: null, right: null };
let working = Promise.resolve(), asked = 0, waiting = null;

// -- asking the server ------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(path, sent) {
  let answer;
  try {
    answer = await fetch(path, sent === undefined ? {} : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(sent),
    });
  } catch {
    lost(true);
    throw new Refused(0, "The server does not answer. Nothing was saved.");
  }
  lost(false);
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, content.error || `The server answered ${answer.status}.`);
  return content;
}

function lost(gone) {
  const text = "The server does not answer. Start `landslip serve` again; what it has confirmed is saved, and nothing is saved until it is back.";
  if (gone) warn(text);
  else if ($("alert").textContent === text) warn("");
}

function warn(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

let quieter;
function say(text) {
  $("status").textContent = text;
  clearTimeout(quieter);
  quieter = setTimeout(() => { $("status").textContent = ""; }, 4500);
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// -- numbers ----------------------------------------------------------------------------------------------------------

const grouped = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });

function area(m2) {
  if (m2 === null || m2 === undefined) return "–";
  const three = (value) => (value >= 100 ? grouped(value) : value.toPrecision(3));
  if (m2 >= 1e6) return `${three(m2 / 1e6)} km²`;
  return m2 >= 1e4 ? `${three(m2 / 1e4)} ha` : `${grouped(m2)} m²`;
}

function figure(value, unit) {
  if (value === null || value === undefined || value === "") return "–";
  if (unit === "area") return area(value);
  if (typeof value !== "number") return String(value);
  const text = Number.isInteger(value) ? grouped(value) : Math.abs(value) >= 100 ? grouped(value, 0) : String(+value.toPrecision(3));
  return unit === "°" ? `${text}°` : unit ? `${text} ${unit}` : text;
}

const stateOf = (id) => reviews.get(id)?.state ?? "open";
const versionOf = (id) => reviews.get(id)?.version ?? 0;
const areaOf = (id) => reviews.get(id)?.area_m2 ?? landslides.get(id)?.attributes.area_m2 ?? null; // of the outline that is shown
const meanOf = (id) => landslides.get(id)?.attributes.probability_mean ?? null;

// -- map --------------------------------------------------------------------------------------------------------------

function makeMap() {
  const grid = run.grid, scale = 2 ** grid.levels;
  // map coordinates as they are, (y, x) where Leaflet says latitude and longitude; a raster's pixel is one of the screen at zoom `levels`
  const crs = L.extend({}, L.CRS.Simple, {
    transformation: new L.Transformation(
      1 / (grid.x_size * scale), -grid.left / (grid.x_size * scale), -1 / (grid.y_size * scale), grid.top / (grid.y_size * scale)),
  });
  const bounds = L.latLngBounds([grid.bottom, grid.left], [grid.top, grid.right]);
  canvas = L.canvas({ padding: 0.3, tolerance: 5 });
  map = L.map("map", {
    crs, minZoom: 0, maxZoom: grid.levels + 5, zoomSnap: 0.5, zoomDelta: 1, renderer: canvas, maxBounds: bounds.pad(0.6),
    boxZoom: false, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm,
  });
  for (const side of ["left", "right"]) map.createPane(side).style.zIndex = 200;
  panes = { left: map.getPane("left"), right: map.getPane("right") };
  outlines = L.featureGroup().addTo(map);
  candidates = L.featureGroup().addTo(map);
  chosen = L.featureGroup().addTo(map);
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  map.fitBounds(bounds);
  map.on("move zoom viewreset resize", clip);
  map.on("moveend", () => later(refresh, 80));
  map.on("zoomend", highlight);
  map.on("mousemove", (event) => {
    $("position").textContent = `x ${grouped(event.latlng.lng)}  y ${grouped(event.latlng.lat)} m`;
    if (drawing) rubber(event.latlng);
  });
  map.on("mouseout", () => { $("position").textContent = ""; });
  map.on("click", (event) => { if (drawing) corner(event.latlng); });
  map.on("dblclick", () => { if (drawing) finish(); });
  new ResizeObserver(() => map.invalidateSize({ animate: false })).observe($("map"));
}

const timers = new Map();
function later(work, wait) {
  clearTimeout(timers.get(work));
  timers.set(work, setTimeout(work, wait));
}

function tilesOf(layer, side) {
  const grid = run.grid;
  const made = L.tileLayer(urlOf(layer), {
    pane: side, tileSize: grid.tile, minZoom: 0, maxZoom: grid.levels + 5, maxNativeZoom: grid.levels, minNativeZoom: 0, noWrap: true,
    bounds: L.latLngBounds([grid.bottom, grid.left], [grid.top, grid.right]), keepBuffer: 3, updateWhenZooming: false,
    alt: "",
  });
  made.on("tileerror", () => { later(checkServer, 300); });
  return made;
}

function urlOf(layer) {
  const at = layer.kind === "agreement" ? `&threshold=${threshold}` : "";
  return `/api/tiles/${layer.key}/{z}/{x}/{y}.png?mark=${layer.mark}${at}`;
}

function checkServer() {
  ask("/api/run").catch((error) => warn(error.message));
}

async function show(side, key) {
  const before = sides[side];
  const layer = layers.get(key) ?? null;
  sides[side] = { key, layer, tiles: [] };
  if (layer) {
    const under = layer.overlay ? run.layers.find((one) => one.group === "Image") ?? run.layers.find((one) => !one.overlay) : null;
    if (under) sides[side].tiles.push(tilesOf(under, side).addTo(map));
    const top = tilesOf(layer, side).addTo(map);
    top.setZIndex(2);
    sides[side].tiles.push(top);
    sides[side].top = top;
  }
  before?.tiles.forEach((tiles) => tiles.remove());
  $(`layer-${side}`).value = key;
  const two = Boolean(sides.left?.layer && sides.right?.layer);
  $("swipe").hidden = !two;
  clip();
  keepSettings();
  await legend(side);
}

function clip() {
  const two = sides.left?.layer && sides.right?.layer;
  const size = map.getSize();
  const nw = map.containerPointToLayerPoint([0, 0]), se = map.containerPointToLayerPoint(size);
  const at = map.containerPointToLayerPoint([size.x * swipe, 0]).x;
  const box = (a, b) => `polygon(${a}px ${nw.y}px, ${b}px ${nw.y}px, ${b}px ${se.y}px, ${a}px ${se.y}px)`;
  panes.left.style.clipPath = two ? box(nw.x, at) : "";
  panes.right.style.clipPath = two ? box(at, se.x) : "";
  const handle = $("swipe");
  handle.style.left = `${100 * swipe}%`;
  handle.setAttribute("aria-valuenow", String(Math.round(100 * swipe)));
  handle.setAttribute("aria-valuetext", `${Math.round(100 * swipe)} % of the map shows the left layer`);
}

function moveSwipe(to) {
  swipe = Math.min(1, Math.max(0, to));
  clip();
}

async function legend(side) {
  const box = $(`legend-${side}`), layer = sides[side].layer;
  box.replaceChildren();
  box.hidden = !layer;
  if (!layer) return;
  box.append(element("strong", layer.title));
  let found;
  try { found = await ask(`/api/layers/${layer.key}/legend`); } catch (error) { warn(error.message); return; }
  if (sides[side].layer !== layer) return;
  if (found.range) {
    const ramp = element("div", null, { class: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${found.colours.join(", ")})`;
    const ends = element("div", null, { class: "ends" });
    ends.append(element("span", figure(found.range[0], "")), element("span", figure(found.range[1], { degree: "°", stored: "" }[layer.unit] ?? layer.unit)));
    box.append(ramp, ends);
  } else if (found.classes) {
    const list = element("ul");
    for (const { name, colour } of found.classes) list.append(swatched(colour, name));
    box.append(list);
  }
}

function swatched(colour, text) {
  const item = element("li"), swatch = element("span", null, { class: "swatch" });
  swatch.style.background = colour;
  item.append(swatch, text);
  return item;
}

// -- outlines ---------------------------------------------------------------------------------------------------------

const atInventory = () => run.inventory_threshold !== null && (threshold === null || Math.abs(threshold - run.inventory_threshold) < 5e-7);

async function refresh() {
  const number = ++asked;
  if (!$("show-outlines").checked) {
    outlines.clearLayers();
    candidates.clearLayers();
    highlight();
    return;
  }
  const seen = map.getBounds().pad(0.25);
  const box = `left=${seen.getWest()}&bottom=${seen.getSouth()}&right=${seen.getEast()}&top=${seen.getNorth()}`;
  const pixel = run.grid.x_size * 2 ** (run.grid.levels - map.getZoom()); // metres on the screen
  try {
    if (threshold === null || atInventory()) {
      const found = await ask(`/api/outlines?${box}&tolerance=${pixel > run.grid.x_size ? pixel / 2 : 0}`);
      if (number !== asked) return;
      draw(outlines, found.features);
      candidates.clearLayers();
      if (found.left_out) say(`${grouped(found.left_out)} smaller outlines are not shown: zoom in.`);
    } else {
      const found = await ask(`/api/candidates?${box}&threshold=${threshold}`);
      if (number !== asked) return;
      outlines.clearLayers();
      draw(candidates, found.features);
    }
    highlight();
    document.body.dataset.outlines = String(number);
  } catch (error) { if (error.status) warn(error.message); }
}

function draw(group, features) {
  group.clearLayers();
  for (const feature of features) {
    const style = STYLES[feature.id ? stateOf(feature.id) : "candidate"];
    const places = L.GeoJSON.coordsToLatLngs(feature.geometry.coordinates, feature.geometry.type === "Polygon" ? 1 : 2);
    L.polygon(places, { color: "#000", opacity: 0.55, weight: style.weight + 2.5, fill: false, interactive: false }).addTo(group);
    const line = L.polygon(places, { ...style, fill: true, fillColor: style.color, fillOpacity: 0.04, interactive: Boolean(feature.id) }).addTo(group);
    line.landslide = feature.id;
    if (feature.id) line.on("click", (event) => {
      if (drawing) return;
      L.DomEvent.stopPropagation(event);
      select(feature.id, { fly: false });
    });
  }
}

function highlight() {
  chosen.clearLayers();
  if (selected === null) return;
  let found = null;
  outlines.eachLayer((line) => { if (line.landslide === selected) found = line; });
  const style = { color: "#FFFFFF", weight: 4, fill: false, interactive: false };
  const dark = { color: "#000", weight: 8, opacity: 0.8, fill: false, interactive: false };
  const bounds = found ? null : boundsOf(selected);
  if (!found && !bounds) return;
  const make = (look) => (found ? L.polygon(found.getLatLngs(), look) : L.rectangle(bounds, { ...look, weight: look.weight / 2 }));
  const box = found ? found.getBounds() : bounds;
  const span = map.latLngToContainerPoint(box.getSouthEast()).distanceTo(map.latLngToContainerPoint(box.getNorthWest()));
  if (span < 44) { // too small to find by its outline
    for (const [weight, color] of [[6, "#000"], [3, "#FFF"]]) L.circleMarker(box.getCenter(), { radius: 26, weight, color, fill: false, interactive: false }).addTo(chosen);
  }
  make(dark).addTo(chosen);
  make(style).addTo(chosen);
  if (found) make({ color: found.options.color, weight: 2, dashArray: found.options.dashArray, fill: false, interactive: false }).addTo(chosen);
}

function boundsOf(id) {
  const box = (stateOf(id) === "redrawn" || id < 0 ? reviews.get(id)?.bounds : null) ?? landslides.get(id)?.bounds;
  return box ? L.latLngBounds([box[1], box[0]], [box[3], box[2]]) : null;
}

function fly(id) {
  const bounds = boundsOf(id);
  if (!bounds) return;
  const zoom = Math.min(map.getBoundsZoom(bounds.pad(1.2)), run.grid.levels + 2);
  const far = map.getBounds().intersects(bounds) === false;
  if (calm || far) map.setView(bounds.getCenter(), zoom, { animate: false });
  else map.flyTo(bounds.getCenter(), zoom, { duration: 0.35 });
}

// -- threshold and scores ---------------------------------------------------------------------------------------------

function setThreshold(to, soon = true) {
  if (!Number.isFinite(to)) return;
  threshold = Math.round(1000 * Math.min(1, Math.max(0, to))) / 1000;
  const base = run.inventory_threshold ?? run.threshold;
  if (Math.abs(threshold - base) < 5e-4) threshold = base; // what a slider of a thousand steps cannot say
  $("threshold").value = threshold;
  if (document.activeElement !== $("threshold-number")) $("threshold-number").value = String(+threshold.toFixed(6));
  $("threshold-reset").disabled = threshold === base;
  $("threshold-text").textContent = atInventory()
    ? `${base} is the inventory's own: its outlines are shown.`
    : run.inventory_threshold !== null
      ? `Candidates at ${threshold}, for looking only. Reviews are of the inventory at ${base}: Reset.`
      : `Candidates at ${threshold} (${run.threshold_source} is ${run.threshold}). There is no inventory to review yet.`;
  $("threshold-text").dataset.at = String(threshold);
  scores();
  later(refresh, soon ? 120 : 0);
  later(recolour, soon ? 250 : 0);
}

function recolour() {
  for (const side of ["left", "right"]) {
    if (sides[side]?.layer?.kind === "agreement") sides[side].top.setUrl(urlOf(sides[side].layer));
  }
}

async function count() {
  const part = $("part").value;
  try {
    const found = await ask(`/api/scores?part=${part}`);
    if (part !== $("part").value) return;
    if (found.counting) {
      counts = null;
      $("scores-text").textContent = "Counting the pixels of this part …";
      setTimeout(count, 1000);
    } else counts = found;
    scores();
  } catch (error) {
    counts = null;
    scores();
    $("scores-text").textContent = error.message;
  }
}

function scores() {
  if (!counts) { $("scores").replaceChildren(); $("confusion").replaceChildren(); return; }
  // an edge of the bins is a threshold to the pixel; what lies between two is taken at the lower
  const edge = Math.floor(threshold * counts.bins + 1e-6);
  const sum = (list, from) => { let total = 0; for (let i = from; i < list.length; i++) total += list[i]; return total; };
  const tp = sum(counts.landslide, edge), fp = sum(counts.other, edge);
  const fn = sum(counts.landslide, 0) - tp, tn = sum(counts.other, 0) - fp;
  const n = tp + fp + fn + tn, over = (a, b) => (b ? a / b : NaN);
  const chance = over((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn), n * n), accuracy = over(tp + tn, n);
  const found = {
    accuracy, precision: over(tp, tp + fp), recall: over(tp, tp + fn), f1: tp + fp && tp + fn ? over(2 * tp, 2 * tp + fp + fn) : NaN,
    kappa: over(accuracy - chance, 1 - chance), miou: (over(tp, tp + fp + fn) + over(tn, tn + fp + fn)) / 2,
  };
  $("scores").replaceChildren(...SCORES.map(([key, name]) => {
    const box = element("div");
    box.append(element("dt", name), element("dd", Number.isNaN(found[key]) ? "–" : (100 * found[key]).toFixed(2), { "data-score": key }));
    return box;
  }));
  $("confusion").replaceChildren(
    swatched(palette("hit"), `${grouped(tp)} hits`), swatched(palette("miss"), `${grouped(fn)} misses`), swatched(palette("false-alarm"), `${grouped(fp)} false alarms`));
  $("leaky").hidden = counts.leaky === false;
  $("leaky").textContent = counts.leaky ? "LEAKY" : "SPLIT UNKNOWN";
  const split = counts.split === "unknown" ? "Split: unknown." : `Split: ${counts.split}.`;
  const rest = "Per cent of pixels; landslip evaluate adds intervals and the audit.";
  $("scores-text").textContent = [split, ...counts.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`), rest].join(" ");
}

// -- the table --------------------------------------------------------------------------------------------------------

const doubtOf = (id) => {
  const mean = meanOf(id), at = run.inventory_threshold ?? run.threshold ?? 0.5;
  return mean === null ? (id < 0 ? Infinity : 0) : Math.abs(mean - at);
};

function sortTable() {
  const by = $("sort").value, only = $("filter").value;
  const drawn = [...reviews.keys()].filter((id) => id < 0 && stateOf(id) !== "open");
  const ids = [...landslides.keys(), ...drawn].filter((id) =>
    only === "all" || id === selected || (only === "open") === (stateOf(id) === "open"));
  const keys = { doubt: doubtOf, area: (id) => -(areaOf(id) ?? 0), id: (id) => id };
  order = ids.map((id) => [keys[by](id), id]).sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] < b[0] ? -1 : 1)).map(([, id]) => id);
  table();
}

function table() {
  const at = selected === null ? -1 : order.indexOf(selected);
  if (at >= shownRows) shownRows = Math.ceil((at + 1) / CHUNK) * CHUNK;
  $("rows").replaceChildren(...order.slice(0, shownRows).map(row));
  $("more").hidden = order.length <= shownRows;
  $("more").textContent = `Show more (${grouped(order.length - shownRows)} left)`;
  const decided = [...landslides.keys()].filter((id) => stateOf(id) !== "open").length;
  $("progress").textContent = landslides.size ? `${grouped(decided)} of ${grouped(landslides.size)} decided` : "";
  mark();
}

function row(id) {
  const state = stateOf(id), made = element("tr", null, { "data-id": id });
  const cell = element("td"), button = element("button", id < 0 ? `new ${-id}` : String(id), { type: "button", "aria-label": `Landslide ${id < 0 ? `new ${-id}` : id}` });
  cell.append(button);
  const mean = meanOf(id), last = element("td");
  last.append(element("span", state, { class: `state state-${state}` }));
  made.append(cell, element("td", area(areaOf(id))), element("td", mean === null ? "–" : mean.toFixed(3)), last);
  made.addEventListener("click", () => select(id));
  return made;
}

function mark() {
  for (const made of $("rows").children) {
    if (Number(made.dataset.id) === selected) {
      made.setAttribute("aria-current", "true");
      const box = made.closest(".scroll"); // not scrollIntoView, which would move the page on a phone
      const above = made.offsetTop - 34, below = made.offsetTop + made.offsetHeight - box.clientHeight;
      if (box.scrollTop > above) box.scrollTop = above;
      else if (box.scrollTop < below) box.scrollTop = below;
    } else made.removeAttribute("aria-current");
  }
}

function select(id, { fly: flies = true } = {}) {
  if (drawing) return;
  selected = id;
  if (id !== null && !order.includes(id)) sortTable();
  else table();
  details();
  highlight();
  if (id !== null && flies) fly(id);
}

function details() {
  const id = selected, known = id !== null, review = known ? reviews.get(id) : null, state = known ? stateOf(id) : null;
  $("selected-head").textContent = known ? (id < 0 ? `New landslide ${-id}` : `Landslide ${id}`) : "No landslide selected";
  const line = $("selected-state");
  if (known) {
    const when = review?.decided && state !== "open" ? ` on ${review.decided.slice(0, 10)}, ${review.decided.slice(11, 16)} UTC` : "";
    line.replaceChildren(element("span", `${state[0].toUpperCase()}${state.slice(1)}${when}${review?.note ? `: ${review.note}` : ""}`, { class: `state state-${state}` }));
  } else line.textContent = "Click an outline or a row of the table, or press J.";
  for (const button of ["accept", "reject", "redraw"]) $(button).disabled = !known || !run.reviewable;
  const values = known ? { ...landslides.get(id)?.attributes } : {};
  const list = $("attributes");
  list.replaceChildren();
  if (known && (id < 0 || state === "redrawn")) list.append(element("dt", id < 0 ? "Area" : "Area, redrawn"), element("dd", area(review?.area_m2)));
  for (const [key, value] of Object.entries(values)) {
    if (HIDDEN.has(key) || value === null) continue;
    const [name, unit] = NAMES[key] ?? [key.replaceAll("_", " "), ""];
    list.append(element("dt", name), element("dd", key.endsWith("sha256") ? String(value).slice(0, 12) : figure(value, unit)));
  }
  $("attributes-area").hidden = !known;
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
}

function step(by) {
  if (!order.length) return;
  const at = selected === null ? -1 : order.indexOf(selected);
  select(order[Math.min(order.length - 1, Math.max(0, at === -1 ? (by > 0 ? 0 : order.length - 1) : at + by))]);
}

function nextOpen(from) {
  const at = order.indexOf(from);
  return [...order.slice(at + 1), ...order.slice(0, Math.max(0, at))].find((id) => stateOf(id) === "open" && landslides.has(id)) ?? null;
}

// -- decisions --------------------------------------------------------------------------------------------------------

function apply(review) {
  reviews.set(review.landslide, review);
  lastVersion = Math.max(lastVersion, review.version);
}

// One after the other, in the order of the keys: each is made on what the last one left.
function queue(work) {
  working = working.then(work).catch(async (error) => {
    warn(error.message);
    if (error.status === 409) await poll(true);
  });
  return working;
}

function decide(state, outline = null) {
  const id = state === "drawn" ? null : selected;
  if (id === null && state !== "drawn") return working;
  if (id > 0 && threshold !== null && !atInventory()) { // what is on the screen is not what would be decided on
    setThreshold(run.inventory_threshold ?? run.threshold, false);
    say("Nothing was decided: the inventory's own outlines are shown again. Look, then decide.");
    return working;
  }
  const note = $("note").value.trim();
  return queue(async () => {
    const review = await ask("/api/reviews", { landslide: id, state, version: id === null ? 0 : versionOf(id), outline, note });
    warn("");
    apply(review);
    done.push(review.decision);
    undone = [];
    keepHistory();
    $("note").value = "";
    say(`${id === null ? `New landslide ${-review.landslide}` : `Landslide ${id}`} ${review.state}. Saved.`);
    const next = $("advance").checked && id !== null && (selected === id) ? nextOpen(id) : null;
    if (id === null) selected = review.landslide;
    sortTable();
    if (next !== null && state !== "redrawn") select(next);
    else details();
    if (id !== null && state !== "redrawn" && $("advance").checked && next === null && order.every((one) => stateOf(one) !== "open")) say("Every landslide of the table is decided.");
    await refresh();
  });
}

function back(redoing) {
  return queue(async () => {
    const from = redoing ? undone : done, to = redoing ? done : undone;
    const decision = from.pop();
    if (decision === undefined) return;
    let review;
    try {
      review = await ask(`/api/reviews/${redoing ? "redo" : "undo"}`, { decision });
    } catch (error) {
      if (!error.status || error.status >= 500) from.push(decision); // it may still be done later
      keepHistory();
      details();
      throw error;
    }
    warn("");
    to.push(decision);
    apply(review);
    keepHistory();
    const gone = review.landslide < 0 && review.state === "open";
    say(`${redoing ? "Again" : "Undone"}: ${review.landslide < 0 ? `new landslide ${-review.landslide}` : `landslide ${review.landslide}`} is ${gone ? "removed" : review.state}. Saved.`);
    selected = gone ? null : review.landslide;
    sortTable();
    details();
    if (selected !== null) fly(selected);
    await refresh();
  });
}

function keepHistory() {
  try { sessionStorage.setItem("history", JSON.stringify({ done: done.slice(-500), undone: undone.slice(-500) })); } catch { /* private mode */ }
}

function findHistory() {
  try { ({ done, undone } = JSON.parse(sessionStorage.getItem("history")) ?? { done: [], undone: [] }); } catch { done = []; undone = []; }
  const stands = [...reviews.values()].map((one) => one.decision).filter(Boolean).sort((a, b) => a - b);
  if (!done.some((decision) => stands.includes(decision))) { done = stands; undone = []; } // a page opened anew can undo too
}

async function poll(now = false) {
  if (document.hidden && !now) return;
  const found = await ask(`/api/reviews?since=${lastVersion}`).catch(() => null);
  if (!found) return;
  const news = found.reviews.filter((one) => one.version > versionOf(one.landslide));
  news.forEach(apply);
  if (news.length) {
    sortTable();
    details();
    refresh();
    if (!now) say(`Another window decided on ${news.length === 1 ? `landslide ${news[0].landslide}` : `${news.length} landslides`}.`);
  }
}

// -- drawing ----------------------------------------------------------------------------------------------------------

function startDrawing(state) {
  if (!run.reviewable || (state === "redrawn" && selected === null)) return;
  if (drawing) stopDrawing();
  drawing = { state, corners: [], line: L.layerGroup().addTo(map) };
  map.doubleClickZoom.disable();
  $("map").classList.add("drawing");
  $("drawing-text").textContent = state === "drawn" ? "New landslide: click its corners." : `Landslide ${selected}: click the corners of its outline.`;
  $("drawing").hidden = $("cross").hidden = false;
  rubber(null);
  map.getContainer().focus({ preventScroll: true });
}

function stopDrawing() {
  drawing?.line.remove();
  drawing = null;
  map.doubleClickZoom.enable();
  $("map").classList.remove("drawing");
  $("drawing").hidden = $("cross").hidden = true;
}

function corner(place) {
  const last = drawing.corners.at(-1);
  if (last && map.latLngToContainerPoint(last).distanceTo(map.latLngToContainerPoint(place)) < 3) return; // a double click is one corner
  drawing.corners.push(place);
  rubber(null);
}

function rubber(place) {
  const places = place ? [...drawing.corners, place] : drawing.corners;
  drawing.line.clearLayers();
  for (const look of [{ color: "#000", weight: 5, opacity: 0.6 }, { color: palette("review-drawn"), weight: 3 }]) {
    L.polygon(places, { ...look, fill: look.weight === 3, fillOpacity: 0.15, interactive: false }).addTo(drawing.line);
  }
  for (const at of drawing.corners) L.circleMarker(at, { radius: 4, color: "#000", weight: 1, fillColor: "#fff", fillOpacity: 1, interactive: false }).addTo(drawing.line);
  $("draw-done").disabled = drawing.corners.length < 3;
  $("draw-back").disabled = !drawing.corners.length;
}

function finish() {
  if (drawing.corners.length < 3) { say("An outline needs three corners or more."); return; }
  const ring = drawing.corners.map((place) => [place.lng, place.lat]);
  ring.push([...ring[0]]);
  const { state } = drawing;
  stopDrawing();
  decide(state, { type: "Polygon", coordinates: [ring] });
}

// -- keys -------------------------------------------------------------------------------------------------------------

const KEYS = {
  j: () => step(1), k: () => step(-1), a: () => decide("accepted"), r: () => decide("rejected"),
  e: () => startDrawing("redrawn"), n: () => startDrawing("drawn"), u: () => back(false), U: () => back(true),
  f: () => selected !== null && fly(selected), h: () => whole(), o: () => { $("show-outlines").click(); },
  "[": () => setThreshold(threshold - 0.01), "]": () => setThreshold(threshold + 0.01),
  ",": () => moveSwipe(swipe - 0.05), ".": () => moveSwipe(swipe + 0.05), x: exchange, "?": () => $("help").showModal(),
};

function exchange() {
  const { left, right } = sides;
  if (left?.layer && right?.layer) Promise.all([show("left", right.key), show("right", left.key)]);
}

function whole() {
  const grid = run.grid;
  map.fitBounds([[grid.bottom, grid.left], [grid.top, grid.right]], { animate: !calm });
}

function pressed(event) {
  if ($("help").open) return;
  const typing = event.target.matches("input[type=text], input[type=number], select, textarea");
  const control = (event.ctrlKey || event.metaKey) && !event.altKey;
  if (control && !typing && run.reviewable) {
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") { event.preventDefault(); back(key === "y" || event.shiftKey); }
    return;
  }
  if (event.altKey || control) return;
  if (event.key === "Escape") {
    if (drawing) stopDrawing();
    else if (!typing) select(null);
    return;
  }
  if (drawing && !typing) {
    const onButton = event.target.matches("button");
    if (event.key === "Enter" && !onButton) { event.preventDefault(); finish(); }
    else if (event.key === "Backspace") { event.preventDefault(); drawing.corners.pop(); rubber(null); }
    else if (event.key.toLowerCase() === "c") corner(map.getCenter());
    return;
  }
  if (typing || !$("shortcuts").checked) return;
  const reviewing = "jkarenuUf".includes(event.key);
  const work = KEYS[event.key];
  if (!work || (reviewing && !run.reviewable) || ("[]".includes(event.key) && threshold === null)) return;
  event.preventDefault();
  work();
}

// -- settings that stay with the browser ------------------------------------------------------------------------------

function keepSettings() {
  const kept = { left: sides.left?.key, right: sides.right?.key, shortcuts: $("shortcuts").checked, advance: $("advance").checked, sort: $("sort").value };
  try { localStorage.setItem("settings", JSON.stringify(kept)); } catch { /* private mode */ }
}

function settings() {
  try { return JSON.parse(localStorage.getItem("settings")) ?? {}; } catch { return {}; }
}

// -- beginning --------------------------------------------------------------------------------------------------------

function options() {
  for (const side of ["left", "right"]) {
    const groups = new Map();
    for (const layer of run.layers) {
      if (!groups.has(layer.group)) groups.set(layer.group, element("optgroup", null, { label: layer.group }));
      groups.get(layer.group).append(element("option", layer.title, { value: layer.key }));
    }
    $(`layer-${side}`).replaceChildren(...(side === "right" ? [element("option", "None", { value: "" })] : []), ...groups.values());
    $(`layer-${side}`).addEventListener("change", (event) => show(side, event.target.value));
  }
  const words = { test: "test part", validation: "validation part", train: "training part", all: "all mapped ground" };
  $("part").replaceChildren(...run.parts.map((part) => element("option", words[part], { value: part })));
}

function wire() {
  const clicks = {
    accept: () => decide("accepted"), reject: () => decide("rejected"), redraw: () => startDrawing("redrawn"), draw: () => startDrawing("drawn"),
    undo: () => back(false), redo: () => back(true), "draw-corner": () => corner(map.getCenter()), "draw-done": finish, "draw-cancel": stopDrawing,
    "draw-back": () => { drawing.corners.pop(); rubber(null); }, "show-help": () => $("help").showModal(), "close-help": () => $("help").close(),
    "threshold-reset": () => setThreshold(run.inventory_threshold ?? run.threshold, false), more: () => { shownRows += CHUNK; table(); },
  };
  for (const [id, work] of Object.entries(clicks)) $(id).addEventListener("click", work);
  $("threshold").addEventListener("input", (event) => setThreshold(event.target.valueAsNumber));
  $("threshold-number").addEventListener("input", (event) => setThreshold(event.target.valueAsNumber));
  $("threshold-number").addEventListener("blur", () => { $("threshold-number").value = String(+threshold.toFixed(6)); });
  $("part").addEventListener("change", () => { counts = null; count(); });
  $("show-outlines").addEventListener("change", refresh);
  for (const id of ["sort", "filter"]) $(id).addEventListener("change", () => { shownRows = CHUNK; sortTable(); keepSettings(); });
  for (const id of ["shortcuts", "advance"]) $(id).addEventListener("change", keepSettings);
  document.addEventListener("keydown", pressed);
  document.addEventListener("visibilitychange", () => poll());

  const handle = $("swipe"), place = (event) => {
    const box = $("map-area").getBoundingClientRect();
    moveSwipe((event.clientX - box.left) / box.width);
  };
  handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); handle.focus(); });
  handle.addEventListener("pointermove", (event) => { if (handle.hasPointerCapture(event.pointerId)) place(event); });
  handle.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
    if (event.key in moves) { event.preventDefault(); moveSwipe(swipe + moves[event.key]); }
  });
}

async function begin() {
  run = await ask("/api/run");
  document.title = `${run.name} – landslip`;
  $("name").textContent = run.name;
  layers = new Map(run.layers.map((layer) => [layer.key, layer]));
  threshold = run.threshold;
  const kept = settings();
  $("shortcuts").checked = kept.shortcuts ?? true;
  $("advance").checked = kept.advance ?? true;
  $("sort").value = ["doubt", "area", "id"].includes(kept.sort) ? kept.sort : "doubt";
  options();
  makeMap();
  wire();
  const first = layers.has(kept.left) ? kept.left : layers.has("true-colour") ? "true-colour" : run.layers[0].key;
  const second = kept.right === "" || layers.has(kept.right) ? kept.right : layers.has("agreement") ? "agreement" : layers.has("probability") ? "probability" : "";
  const shown = [show("left", first), show("right", second)];
  if (run.warnings.length) warn(run.warnings.join(" "));
  if (threshold !== null) {
    $("threshold-area").hidden = false;
    setThreshold(threshold, false);
    if (run.parts.length) { $("scores-area").hidden = false; count(); }
  }
  if (run.reviewable) {
    const [rows, decided] = await Promise.all([ask("/api/landslides"), ask("/api/reviews")]);
    landslides = new Map(rows.landslides.map((one) => [one.id, one]));
    decided.reviews.forEach(apply);
    findHistory();
    $("selected-area").hidden = $("table-area").hidden = false;
    sortTable();
    details();
    setInterval(poll, POLL);
  } else {
    $("no-inventory").hidden = false;
    $("no-inventory").textContent = "There is no inventory to review. Make one with `landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg` and start `landslip serve` again.";
  }
  await Promise.all(shown);
  await refresh();
  document.body.dataset.ready = "yes";
}

begin().catch((error) => warn(error.message));
