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
const STEP = 80, SMALL_STEP = 8; // pixels of the screen that an arrow key moves the map by while drawing
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const narrow = matchMedia("(max-width: 760px)");

let run, map, panes, layers, canvas;
let landslides = new Map(), reviews = new Map(), lastVersion = 0;
let order = [], shownRows = CHUNK, selected = null;
let swipe = 0.5, threshold = null, counts = null, undone = [], done = [];
let outlines, candidates, chosen, drawing = null, flight = null, sides = { left: null, right: null };
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
  canvas = L.canvas({ padding: 0.3, tolerance: 5 });
  map = L.map("map", {
    crs, minZoom: 0, maxZoom: grid.levels + 5, zoomSnap: 0.5, zoomDelta: 1, renderer: canvas,
    boxZoom: false, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm,
  });
  for (const side of ["left", "right"]) map.createPane(side).style.zIndex = 200;
  panes = { left: map.getPane("left"), right: map.getPane("right") };
  outlines = L.featureGroup().addTo(map);
  candidates = L.featureGroup().addTo(map);
  chosen = L.featureGroup().addTo(map);
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  map.fitBounds(site());
  limit();
  map.on("zoomend resize", limit);
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

const site = () => L.latLngBounds([run.grid.bottom, run.grid.left], [run.grid.top, run.grid.right]);

// The middle of the map may be any place of the site, and a little beyond: there the cross of a drawing puts its corners.
const reach = () => site().pad(0.1);

function limit() {
  const zoom = map.getZoom(), half = map.getSize().divideBy(2);
  const low = map.project(reach().getNorthWest(), zoom).subtract(half), high = map.project(reach().getSouthEast(), zoom).add(half);
  map.setMaxBounds(L.latLngBounds(map.unproject(low, zoom), map.unproject(high, zoom)));
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
    bounds: site(), keepBuffer: 3, updateWhenZooming: false,
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
    outlineLegend();
    return;
  }
  const seen = map.getBounds().pad(0.25);
  const box = `left=${seen.getWest()}&bottom=${seen.getSouth()}&right=${seen.getEast()}&top=${seen.getNorth()}`;
  const pixel = run.grid.x_size * 2 ** (run.grid.levels - map.getZoom()); // metres on the screen
  try {
    const own = threshold === null || atInventory(), none = { features: [] };
    const drawn = [...reviews.keys()].some((id) => id < 0);
    const [found, mapped] = await Promise.all([
      own || drawn ? ask(`/api/outlines?${box}&tolerance=${pixel > run.grid.x_size ? pixel / 2 : 0}`) : none,
      own ? none : ask(`/api/candidates?${box}&threshold=${threshold}`),
    ]);
    if (number !== asked) return;
    draw(outlines, own ? found.features : found.features.filter((one) => one.id < 0)); // what was drawn has no threshold
    draw(candidates, mapped.features);
    if (own && found.left_out) say(`${grouped(found.left_out)} smaller outlines are not shown: zoom in.`);
    highlight();
    outlineLegend();
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

// A line for each kind of outline that the map shows, as it is drawn there.
function outlineLegend() {
  const list = $("outline-legend"), shown = new Set();
  outlines.eachLayer((line) => { if (line.landslide) shown.add(stateOf(line.landslide)); });
  if (candidates.getLayers().length) shown.add("candidate");
  const items = Object.entries(STYLES).filter(([state]) => shown.has(state)).map(([state, { color, weight, dashArray }]) => {
    const item = element("li"), drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = (look) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [key, value] of Object.entries({ x1: 0, x2: 32, y1: 6, y2: 6, ...look })) made.setAttribute(key, value);
      drawn.append(made);
    };
    for (const [key, value] of Object.entries({ width: 32, height: 12, "aria-hidden": true })) drawn.setAttribute(key, value);
    line({ stroke: "#000", "stroke-opacity": 0.55, "stroke-width": weight + 2.5 });
    line({ stroke: color, "stroke-width": weight, "stroke-dasharray": dashArray ?? "none" });
    item.append(drawn, state);
    return item;
  });
  list.replaceChildren(...items);
  list.hidden = !items.length;
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
  const review = reviews.get(id); // an area comes with an outline that is not the inventory's own
  const box = (review && review.area_m2 !== null ? review.bounds : null) ?? landslides.get(id)?.bounds;
  return box ? L.latLngBounds([box[1], box[0]], [box[3], box[2]]) : null;
}

function fly(id) {
  const bounds = boundsOf(id);
  if (!bounds) return;
  const fit = map.getBoundsZoom(site()); // never farther off than the whole site
  const zoom = Math.max(fit, Math.min(map.getBoundsZoom(bounds.pad(1.2)), Math.max(run.grid.levels + 2, fit + 1)));
  const edge = map.getSize().multiplyBy(0.35); // of the screen a seventh at most lies beyond the site
  const centre = within(bounds.getCenter(), map.project(site().getNorthWest(), zoom).add(edge), map.project(site().getSouthEast(), zoom).subtract(edge), zoom);
  const far = map.getBounds().intersects(bounds) === false;
  if (calm || far) map.setView(centre, zoom, { animate: false });
  else {
    map.flyTo(centre, zoom, { duration: 0.35 });
    flight = [centre, zoom];
    map.once("moveend", () => { flight = null; });
  }
}

// The place nearest to another between two corners, in pixels at a zoom; halfway where these have changed sides.
function within(place, low, high, zoom) {
  const at = map.project(place, zoom);
  const between = (value, least, most) => (least > most ? (least + most) / 2 : Math.min(most, Math.max(least, value)));
  return map.unproject([between(at.x, low.x, high.x), between(at.y, low.y, high.y)], zoom);
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
      : `Candidates at ${threshold} (${run.threshold_source} is ${run.threshold}). They are in no inventory yet.`;
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
  const drawn = [...reviews.keys()].filter((id) => id < 0 && stateOf(id) !== "open").length;
  $("progress").textContent = landslides.size ? `${grouped(decided)} of ${grouped(landslides.size)} decided` : drawn ? `${grouped(drawn)} drawn` : "";
  $("table-area").hidden = !landslides.size && !drawn;
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
  } else line.textContent = order.length ? "Click an outline or a row of the table, or press J." : "There is none yet. Draw those that you see: Draw new (N).";
  for (const button of ["accept", "reject", "redraw"]) $(button).disabled = !known;
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
  if (!order.length) { say(landslides.size ? "The table shows no landslide." : "There is no landslide to go to yet. N draws one."); return; }
  const at = selected === null ? -1 : order.indexOf(selected);
  const to = at === -1 ? (by > 0 ? 0 : order.length - 1) : at + by;
  if (to < 0 || to >= order.length) say(`This is the ${by > 0 ? "last" : "first"} landslide of the table.`);
  else select(order[to]);
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
    const name = review.landslide < 0 ? `New landslide ${-review.landslide}` : `Landslide ${id}`;
    say(state === "accepted" && review.state !== state ? `${name} accepted as it was ${review.state}. Saved.` : `${name} ${review.state}. Saved.`);
    const next = $("advance").checked && id !== null && (selected === id) ? nextOpen(id) : null;
    if (id === null) selected = review.landslide;
    sortTable();
    if (next !== null) select(next);
    else details();
    if (id !== null && $("advance").checked && next === null && order.every((one) => stateOf(one) !== "open")) say("Every landslide of the table is decided.");
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
  if (state === "redrawn" && selected === null) return;
  if (drawing) stopDrawing();
  if (flight) { // the map stands still for a drawing
    const [centre, zoom] = flight;
    map.stop();
    map.setView(centre, zoom, { animate: false });
  }
  drawing = { state, corners: [], line: L.layerGroup().addTo(map) };
  map.doubleClickZoom.disable();
  map.keyboard.disable(); // the arrow keys move it at once, by `nudge`
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
  map.keyboard.enable();
  $("map").classList.remove("drawing");
  $("drawing").hidden = $("cross").hidden = true;
}

function cornerAtCross() {
  const place = map.getCenter(), at = map.latLngToContainerPoint(place);
  if (drawing.corners.some((one) => map.latLngToContainerPoint(one).distanceTo(at) < 3)) say("There is a corner at the cross already: move the map first.");
  else corner(place);
}

// Move the map under the cross, at once, as far as corners may lie.
function nudge([x, y], step) {
  const zoom = map.getZoom(), from = map.project(map.getCenter(), zoom), to = map.unproject(from.add([x * step, y * step]), zoom);
  const nearest = within(to, map.project(reach().getNorthWest(), zoom), map.project(reach().getSouthEast(), zoom), zoom);
  map.panBy(map.project(nearest, zoom).subtract(from), { animate: false });
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
  map.fitBounds(site(), { animate: !calm });
}

function pressed(event) {
  if ($("help").open) return;
  const typing = event.target.matches("input[type=text], input[type=number], select, textarea");
  const control = (event.ctrlKey || event.metaKey) && !event.altKey;
  if (control && !typing) {
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
    else if (event.key.toLowerCase() === "c") cornerAtCross();
    else if (event.key in ARROWS && !event.target.matches("input, [role=slider]")) {
      event.preventDefault();
      nudge(ARROWS[event.key], event.shiftKey ? SMALL_STEP : STEP);
    } else if (event.key === "+" || event.key === "-") map.zoomIn(event.key === "+" ? 1 : -1, { animate: false });
    return;
  }
  if (typing || !$("shortcuts").checked) return;
  const work = KEYS[event.key];
  if (!work || ("[]".includes(event.key) && threshold === null)) return;
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
    undo: () => back(false), redo: () => back(true), "draw-corner": cornerAtCross, "draw-done": finish, "draw-cancel": stopDrawing,
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
  narrow.addEventListener("change", arrange);

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

// On a phone the buttons follow the map; beside it, what is looked at comes first.
function arrange() {
  const looking = ["layers-area", "threshold-area"], reviewing = ["selected-area", "table-area"];
  $("panel").append(...(narrow.matches ? [...reviewing, ...looking] : [...looking, ...reviewing]).map($));
}

// What to do where no landslide is in an inventory yet.
function tellTheWay() {
  const box = $("no-inventory");
  box.hidden = landslides.size > 0;
  box.textContent = "What you draw is saved in inventory/landslides.gpkg of this run. " + (threshold !== null
    ? "The map is in no inventory yet: `landslip inventory RUN/map/probability.tif RUN/inventory/landslides.gpkg` makes one to review (where you have drawn, with --overwrite: what is drawn stays)."
    : layers.has("reference")
      ? "`landslip correct` adds it to the label."
      : "To train on it, name that file under [landslides] in site.toml and prepare the site again. All other ground inside the outline then counts as no landslide.");
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
  arrange();
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
  const [rows, decided] = await Promise.all([ask("/api/landslides"), ask("/api/reviews")]);
  landslides = new Map(rows.landslides.map((one) => [one.id, one]));
  if (!landslides.size && threshold !== null) { // what is drawn belongs to no threshold: the map's own candidates are shown
    run.inventory_threshold = null;
    setThreshold(threshold, false);
  }
  decided.reviews.forEach(apply);
  findHistory();
  $("selected-area").hidden = false;
  sortTable();
  details();
  tellTheWay();
  setInterval(poll, POLL);
  await Promise.all(shown);
  await refresh();
  document.body.dataset.ready = "yes";
}

begin().catch((error) => warn(error.message));
