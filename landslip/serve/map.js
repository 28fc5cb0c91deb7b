// The map: the layers of the run as tiles on the two sides of a divider, their legends, and flights over the site.

import { ask } from "./api.js";
import { $, calm, element, figure, later, swatched, warn } from "./dom.js";
import { keepSettings } from "./settings.js";
import { state } from "./state.js";

const SIDES = ["left", "right"];

export const site = () => {
  const { left, bottom, right, top } = state.run.grid;
  return L.latLngBounds([bottom, left], [top, right]);
};

// The middle of the map may be any place of the site, and a little beyond: there the cross of a drawing puts corners.
export const reach = () => site().pad(0.1);

// Metres that a pixel of the screen is wide.
export const screenPixel = () => state.run.grid.x_size * 2 ** (state.run.grid.levels - state.map.getZoom());

export function makeMap() {
  const { grid } = state.run, scale = 2 ** grid.levels, x = 1 / (grid.x_size * scale), y = 1 / (grid.y_size * scale);
  // Map coordinates as they are, (y, x) where Leaflet says latitude and longitude; a raster's pixel is one of the
  // screen at zoom `levels`.
  const crs = L.extend({}, L.CRS.Simple, {
    transformation: new L.Transformation(x, -grid.left * x, -y, grid.top * y),
  });
  const map = L.map("map", {
    crs, minZoom: 0, maxZoom: grid.levels + 5, zoomSnap: 0.5, zoomDelta: 1,
    renderer: L.canvas({ padding: 0.3, tolerance: 5 }),
    boxZoom: false, zoomAnimation: !calm, fadeAnimation: !calm, inertia: !calm,
  });
  state.map = map;
  for (const side of SIDES) map.createPane(side).style.zIndex = 200;
  state.panes = { left: map.getPane("left"), right: map.getPane("right") };
  for (const group of ["outlines", "candidates", "marks"]) state[group] = L.featureGroup().addTo(map);
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  map.fitBounds(site());
  limit();
  map.on("zoomend resize", limit);
  map.on("move zoom viewreset resize", clip);
  new ResizeObserver(() => map.invalidateSize({ animate: false })).observe($("map"));
}

function limit() {
  const { map } = state, zoom = map.getZoom(), half = map.getSize().divideBy(2);
  const low = map.project(reach().getNorthWest(), zoom).subtract(half);
  const high = map.project(reach().getSouthEast(), zoom).add(half);
  map.setMaxBounds(L.latLngBounds(map.unproject(low, zoom), map.unproject(high, zoom)));
}

// -- layers -----------------------------------------------------------------------------------------------------------

// Show a layer on a side; "" shows none.
export async function show(side, key) {
  const before = state.sides[side], layer = state.layers.get(key) ?? null;
  const shown = { key, layer, tiles: [] };
  state.sides[side] = shown;
  if (layer) {
    const under = layer.overlay ? groundLayer() : null;
    if (under) shown.tiles.push(tilesOf(under, side).addTo(state.map));
    shown.top = tilesOf(layer, side).addTo(state.map);
    shown.top.setZIndex(2);
    shown.tiles.push(shown.top);
  }
  before?.tiles.forEach((tiles) => tiles.remove());
  $(`layer-${side}`).value = key;
  $("swipe").hidden = !(state.sides.left?.layer && state.sides.right?.layer);
  clip();
  keepSettings();
  await legend(side);
}

// What lies under a layer that is clear in places.
function groundLayer() {
  const { layers } = state.run;
  return layers.find((one) => one.group === "Image") ?? layers.find((one) => !one.overlay);
}

function tilesOf(layer, side) {
  const { grid } = state.run;
  const tiles = L.tileLayer(tileUrl(layer), {
    pane: side, tileSize: grid.tile, minZoom: 0, maxZoom: grid.levels + 5, maxNativeZoom: grid.levels, minNativeZoom: 0,
    noWrap: true, bounds: site(), keepBuffer: 3, updateWhenZooming: false, alt: "",
  });
  tiles.on("tileerror", () => { later(checkServer, 300); });
  return tiles;
}

function tileUrl(layer) {
  const at = layer.kind === "agreement" ? `&threshold=${state.threshold}` : "";
  return `/api/tiles/${layer.key}/{z}/{x}/{y}.png?mark=${layer.mark}${at}`;
}

// Say what is wrong where a tile did not come.
function checkServer() {
  ask("/api/run").catch((error) => warn(error.message));
}

// Fetch hits, misses and false alarms again, which depend on the threshold.
export function recolour() {
  for (const side of SIDES) {
    const shown = state.sides[side];
    if (shown?.layer?.kind === "agreement") shown.top.setUrl(tileUrl(shown.layer));
  }
}

export function exchange() {
  const { left, right } = state.sides;
  if (left?.layer && right?.layer) Promise.all([show("left", right.key), show("right", left.key)]);
}

async function legend(side) {
  const box = $(`legend-${side}`), { layer } = state.sides[side];
  box.replaceChildren();
  box.hidden = !layer;
  if (!layer) return;
  box.append(element("strong", layer.title));
  let content;
  try { content = await ask(`/api/layers/${layer.key}/legend`); } catch (error) { warn(error.message); return; }
  if (state.sides[side].layer !== layer) return; // another one was chosen meanwhile
  if (content.range) {
    const ramp = element("div", null, { class: "ramp" }), ends = element("div", null, { class: "ends" });
    ramp.style.background = `linear-gradient(to right, ${content.colours.join(", ")})`;
    const unit = { degree: "°", stored: "" }[layer.unit] ?? layer.unit;
    ends.append(element("span", figure(content.range[0], "")), element("span", figure(content.range[1], unit)));
    box.append(ramp, ends);
  } else if (content.classes) {
    const list = element("ul");
    for (const { name, colour } of content.classes) list.append(swatched(colour, name));
    box.append(list);
  }
}

// -- the divider ------------------------------------------------------------------------------------------------------

export function moveSwipe(to) {
  state.swipe = Math.min(1, Math.max(0, to));
  clip();
}

function clip() {
  const { map, panes, sides, swipe } = state;
  const two = sides.left?.layer && sides.right?.layer;
  const size = map.getSize();
  const nw = map.containerPointToLayerPoint([0, 0]), se = map.containerPointToLayerPoint(size);
  const at = map.containerPointToLayerPoint([size.x * swipe, 0]).x;
  const box = (a, b) => `polygon(${a}px ${nw.y}px, ${b}px ${nw.y}px, ${b}px ${se.y}px, ${a}px ${se.y}px)`;
  panes.left.style.clipPath = two ? box(nw.x, at) : "";
  panes.right.style.clipPath = two ? box(at, se.x) : "";
  const handle = $("swipe"), percent = Math.round(100 * swipe);
  handle.style.left = `${100 * swipe}%`;
  handle.setAttribute("aria-valuenow", String(percent));
  handle.setAttribute("aria-valuetext", `${percent} % of the map shows the left layer`);
}

// -- flights ----------------------------------------------------------------------------------------------------------

export function showSite() {
  state.map.fitBounds(site(), { animate: !calm });
}

export function boundsOf(id) {
  const review = state.reviews.get(id); // an area comes with an outline that is not the inventory's own
  const box = (review && review.area_m2 !== null ? review.bounds : null) ?? state.landslides.get(id)?.bounds;
  return box ? L.latLngBounds([box[1], box[0]], [box[3], box[2]]) : null;
}

export function fly(id) {
  const bounds = boundsOf(id), { map } = state;
  if (!bounds) return;
  const fit = map.getBoundsZoom(site()); // never farther off than the whole site
  const nearest = Math.max(state.run.grid.levels + 2, fit + 1);
  const zoom = Math.max(fit, Math.min(map.getBoundsZoom(bounds.pad(1.2)), nearest));
  const edge = map.getSize().multiplyBy(0.35); // of the screen a seventh at most lies beyond the site
  const low = map.project(site().getNorthWest(), zoom).add(edge);
  const high = map.project(site().getSouthEast(), zoom).subtract(edge);
  const centre = within(bounds.getCenter(), low, high, zoom);
  if (calm || !map.getBounds().intersects(bounds)) map.setView(centre, zoom, { animate: false });
  else {
    map.flyTo(centre, zoom, { duration: 0.35 });
    state.flight = [centre, zoom];
    map.once("moveend", () => { state.flight = null; });
  }
}

// End a flight where it was going.
export function land() {
  if (!state.flight) return;
  const [centre, zoom] = state.flight;
  state.map.stop();
  state.map.setView(centre, zoom, { animate: false });
}

// The place nearest to another between two corners, in pixels at a zoom; halfway where these have changed sides.
export function within(place, low, high, zoom) {
  const at = state.map.project(place, zoom);
  const between = (value, least, most) => (least > most ? (least + most) / 2 : Math.min(most, Math.max(least, value)));
  return state.map.unproject([between(at.x, low.x, high.x), between(at.y, low.y, high.y)], zoom);
}
