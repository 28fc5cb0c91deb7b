// The threshold, and the scores of the map at it: the server sends those of every threshold at once.

import { ask } from "./api.js";
import { $, element, grouped, later, palette, swatched } from "./dom.js";
import { recolour } from "./map.js";
import { refresh } from "./outlines.js";
import { atInventory, baseThreshold, state } from "./state.js";

const SCORES = [
  ["f1", "F1"], ["precision", "Precision"], ["recall", "Recall"], ["kappa", "Kappa"], ["miou", "MIoU"],
  ["accuracy", "Accuracy"],
];
const ADVICE = "Per cent of pixels; landslip evaluate adds intervals and the audit.";

// Scores, outlines and tiles follow; soon, where a slider is being moved, else at once.
export function setThreshold(to, soon = true) {
  if (!Number.isFinite(to)) return;
  let threshold = Math.round(1000 * Math.min(1, Math.max(0, to))) / 1000;
  const base = baseThreshold();
  if (Math.abs(threshold - base) < 5e-4) threshold = base; // what a slider of a thousand steps cannot say
  state.threshold = threshold;
  $("threshold").value = threshold;
  if (document.activeElement !== $("threshold-number")) writeThreshold();
  $("threshold-reset").disabled = threshold === base;
  $("threshold-text").textContent = thresholdText(threshold, base);
  $("threshold-text").dataset.at = String(threshold);
  scores();
  later(refresh, soon ? 120 : 0);
  later(recolour, soon ? 250 : 0);
}

export function writeThreshold() {
  $("threshold-number").value = String(+state.threshold.toFixed(6));
}

function thresholdText(threshold, base) {
  const { run } = state;
  if (atInventory()) return `${base} is the inventory's own: its outlines are shown.`;
  return run.inventory_threshold !== null
    ? `Candidates at ${threshold}, for looking only. Reviews are of the inventory at ${base}: Reset.`
    : `Candidates at ${threshold} (${run.threshold_source} is ${run.threshold}). They are in no inventory yet.`;
}

// Ask for the counts of the part that is chosen, again and again while they are being counted.
export async function count() {
  const part = $("part").value;
  try {
    const answer = await ask(`/api/scores?part=${part}`);
    if (part !== $("part").value) return;
    if (answer.counting) {
      state.counts = null;
      $("scores-text").textContent = "Counting the pixels of this part …";
      setTimeout(count, 1000);
    } else state.counts = answer;
    scores();
  } catch (error) {
    state.counts = null;
    scores();
    $("scores-text").textContent = error.message;
  }
}

export function recount() {
  state.counts = null;
  count();
}

function scores() {
  const { counts, threshold } = state;
  if (!counts) { $("scores").replaceChildren(); $("confusion").replaceChildren(); return; }
  // What lies between two thresholds that the server sends is taken at the lower.
  const at = counts.thresholds[Math.floor(threshold * (counts.thresholds.length - 1) + 1e-6)];
  $("scores").replaceChildren(...SCORES.map(([key, name]) => {
    const box = element("div"), text = at[key] === null ? "–" : (100 * at[key]).toFixed(2);
    box.append(element("dt", name), element("dd", text, { "data-score": key }));
    return box;
  }));
  $("confusion").replaceChildren(
    swatched(palette("hit"), `${grouped(at.tp)} hits`),
    swatched(palette("miss"), `${grouped(at.fn)} misses`),
    swatched(palette("false-alarm"), `${grouped(at.fp)} false alarms`));
  $("leaky").hidden = counts.leaky === false;
  $("leaky").textContent = counts.leaky ? "LEAKY" : "SPLIT UNKNOWN";
  const split = counts.split === "unknown" ? "Split: unknown." : `Split: ${counts.split}.`;
  const notes = counts.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`);
  $("scores-text").textContent = [split, ...notes, ADVICE].join(" ");
}
