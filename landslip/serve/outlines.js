// Outlines on the map: landslides as they stand, candidates at a threshold, and what marks the selected landslide.

import { ask } from "./api.js";
import { $, element, grouped, palette, say, warn } from "./dom.js";
import { boundsOf, screenPixel } from "./map.js";
import { atInventory, standingOf, state } from "./state.js";

export const STYLES = { // told apart by dash and width too, not by colour alone
  open: { color: palette("review-open"), weight: 2 },
  accepted: { color: palette("review-accepted"), weight: 3 },
  rejected: { color: palette("review-rejected"), weight: 2, dashArray: "3 6" },
  redrawn: { color: palette("review-redrawn"), weight: 3 },
  drawn: { color: palette("review-drawn"), weight: 3, dashArray: "9 4" },
  candidate: { color: palette("candidate"), weight: 1.5 },
};
const CASING = 2.5; // pixels of black, both sides together, that a line is laid on
const LEGEND = { width: 32, height: 12 }; // of a line in the legend
const SMALL = 44; // pixels across: what is smaller on the screen is not found by its outline
const SVG = "http://www.w3.org/2000/svg";

// Ask for the outlines in view and show them.
export async function refresh() {
  const number = ++state.request;
  if (!$("show-outlines").checked) {
    draw(state.outlines, []);
    draw(state.candidates, []);
    highlight();
    outlineLegend();
    return;
  }
  const { map, run, threshold } = state, view = map.getBounds().pad(0.25), pixel = screenPixel();
  const box = `left=${view.getWest()}&bottom=${view.getSouth()}&right=${view.getEast()}&top=${view.getNorth()}`;
  const tolerance = pixel > run.grid.x_size ? pixel / 2 : 0;
  const ofInventory = threshold === null || atInventory();
  const anyDrawn = [...state.reviews.keys()].some((id) => id < 0); // what was drawn is shown at any threshold
  const none = { features: [] };
  try {
    const [standing, candidates] = await Promise.all([
      ofInventory || anyDrawn ? ask(`/api/outlines?${box}&tolerance=${tolerance}`) : none,
      ofInventory ? none : ask(`/api/candidates?${box}&threshold=${threshold}`),
    ]);
    if (number !== state.request) return;
    draw(state.outlines, ofInventory ? standing.features : standing.features.filter((one) => one.id < 0));
    draw(state.candidates, candidates.features);
    if (ofInventory && standing.left_out) {
      say(`${grouped(standing.left_out)} smaller outlines are not shown: zoom in.`);
    }
    highlight();
    outlineLegend();
    document.body.dataset.outlines = String(number);
  } catch (error) { if (error.status) warn(error.message); }
}

function draw(group, features) {
  group.clearLayers();
  for (const { id, geometry } of features) {
    const style = STYLES[id ? standingOf(id) : "candidate"];
    const places = L.GeoJSON.coordsToLatLngs(geometry.coordinates, geometry.type === "Polygon" ? 1 : 2);
    const casing = { color: "#000", opacity: 0.55, weight: style.weight + CASING, fill: false, interactive: false };
    L.polygon(places, casing).addTo(group);
    const look = { ...style, fill: true, fillColor: style.color, fillOpacity: 0.04, interactive: Boolean(id) };
    L.polygon(places, look).addTo(group).landslide = id;
  }
}

// A line for each kind of outline that the map shows, as it is drawn there.
function outlineLegend() {
  const list = $("outline-legend"), shown = new Set();
  state.outlines.eachLayer((line) => { if (line.landslide) shown.add(standingOf(line.landslide)); });
  if (state.candidates.getLayers().length) shown.add("candidate");
  const items = Object.entries(STYLES).filter(([kind]) => shown.has(kind)).map(([kind, style]) => {
    const item = element("li");
    item.append(sampleLine(style), kind);
    return item;
  });
  list.replaceChildren(...items);
  list.hidden = !items.length;
}

function sampleLine({ color, weight, dashArray }) {
  const image = svg("svg", { ...LEGEND, "aria-hidden": true }), at = LEGEND.height / 2;
  const ends = { x1: 0, x2: LEGEND.width, y1: at, y2: at };
  image.append(
    svg("line", { ...ends, stroke: "#000", "stroke-opacity": 0.55, "stroke-width": weight + CASING }),
    svg("line", { ...ends, stroke: color, "stroke-width": weight, "stroke-dasharray": dashArray ?? "none" }));
  return image;
}

function svg(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Mark the selected landslide: by its outline or, where that is not on the map, by its bounds.
export function highlight() {
  const { map, marks, selected } = state;
  marks.clearLayers();
  if (selected === null) return;
  let outline = null;
  state.outlines.eachLayer((line) => { if (line.landslide === selected) outline = line; });
  const box = outline ? outline.getBounds() : boundsOf(selected);
  if (!box) return;
  const corner = (place) => map.latLngToContainerPoint(place);
  if (corner(box.getSouthEast()).distanceTo(corner(box.getNorthWest())) < SMALL) {
    for (const [weight, color] of [[6, "#000"], [3, "#FFF"]]) {
      L.circleMarker(box.getCenter(), { radius: 26, weight, color, fill: false, interactive: false }).addTo(marks);
    }
  }
  for (const look of [{ color: "#000", weight: 8, opacity: 0.8 }, { color: "#FFFFFF", weight: 4 }]) {
    const quiet = { ...look, fill: false, interactive: false };
    if (outline) L.polygon(outline.getLatLngs(), quiet).addTo(marks);
    else L.rectangle(box, { ...quiet, weight: look.weight / 2 }).addTo(marks);
  }
  if (outline) {
    const { color, dashArray } = outline.options;
    L.polygon(outline.getLatLngs(), { color, weight: 2, dashArray, fill: false, interactive: false }).addTo(marks);
  }
}
