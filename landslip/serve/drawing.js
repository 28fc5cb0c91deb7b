// Drawing an outline: by clicks, or by keys with the map moved under a cross.

import { $, palette, say } from "./dom.js";
import { land, reach, within } from "./map.js";
import { decide } from "./review.js";
import { state } from "./state.js";

const NEAR = 3; // pixels of the screen within which two corners are one

// Begin an outline for a verdict: "redrawn", of the selected landslide, or "drawn", a new one.
export function startDrawing(verdict) {
  if (verdict === "redrawn" && state.selected === null) return;
  if (state.drawing) stopDrawing();
  const { map } = state;
  land(); // the map stands still for a drawing
  state.drawing = { verdict, corners: [], lines: L.layerGroup().addTo(map) };
  map.doubleClickZoom.disable();
  map.keyboard.disable(); // the arrow keys move it at once, by `nudge`
  $("map").classList.add("drawing");
  $("drawing-text").textContent = verdict === "drawn"
    ? "New landslide: click its corners."
    : `Landslide ${state.selected}: click the corners of its outline.`;
  $("drawing").hidden = $("cross").hidden = false;
  rubber(null);
  map.getContainer().focus({ preventScroll: true });
}

export function stopDrawing() {
  const { drawing, map } = state;
  drawing?.lines.remove();
  state.drawing = null;
  map.doubleClickZoom.enable();
  map.keyboard.enable();
  $("map").classList.remove("drawing");
  $("drawing").hidden = $("cross").hidden = true;
}

export function finish() {
  const { corners, verdict } = state.drawing;
  if (corners.length < 3) { say("An outline needs three corners or more."); return; }
  const ring = corners.map((place) => [place.lng, place.lat]);
  ring.push([...ring[0]]);
  stopDrawing();
  decide(verdict, { type: "Polygon", coordinates: [ring] });
}

// -- corners ----------------------------------------------------------------------------------------------------------

export function corner(place) {
  const last = state.drawing.corners.at(-1);
  if (last && distance(last, place) < NEAR) return; // a double click is one corner
  state.drawing.corners.push(place);
  rubber(null);
}

export function cornerAtCross() {
  const place = state.map.getCenter();
  if (state.drawing.corners.some((one) => distance(one, place) < NEAR)) {
    say("There is a corner at the cross already: move the map first.");
  } else corner(place);
}

export function removeCorner() {
  state.drawing.corners.pop();
  rubber(null);
}

// Show the outline as it is, with a corner at a place that the mouse is at (null: without).
export function rubber(place) {
  const { corners, lines } = state.drawing, places = place ? [...corners, place] : corners;
  lines.clearLayers();
  for (const look of [{ color: "#000", weight: 5, opacity: 0.6 }, { color: palette("review-drawn"), weight: 3 }]) {
    L.polygon(places, { ...look, fill: look.weight === 3, fillOpacity: 0.15, interactive: false }).addTo(lines);
  }
  const dot = { radius: 4, color: "#000", weight: 1, fillColor: "#fff", fillOpacity: 1, interactive: false };
  for (const at of corners) L.circleMarker(at, dot).addTo(lines);
  $("draw-done").disabled = corners.length < 3;
  $("draw-back").disabled = !corners.length;
}

// Move the map under the cross, at once, as far as corners may lie.
export function nudge([x, y], step) {
  const { map } = state, zoom = map.getZoom(), from = map.project(map.getCenter(), zoom);
  const to = map.unproject(from.add([x * step, y * step]), zoom);
  const low = map.project(reach().getNorthWest(), zoom), high = map.project(reach().getSouthEast(), zoom);
  map.panBy(map.project(within(to, low, high, zoom), zoom).subtract(from), { animate: false });
}

// Pixels of the screen between two places.
function distance(one, other) {
  return state.map.latLngToContainerPoint(one).distanceTo(state.map.latLngToContainerPoint(other));
}
