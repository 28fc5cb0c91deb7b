// Decisions: made, taken back, made again, and heard of from other windows.
// What is shown as decided is what the server has said it has kept, and nothing else.

import { ask } from "./api.js";
import { $, say, warn } from "./dom.js";
import { fly } from "./map.js";
import { refresh } from "./outlines.js";
import { setThreshold } from "./scores.js";
import { keepHistory } from "./settings.js";
import { atInventory, baseThreshold, standingOf, state, versionOf } from "./state.js";
import { capital, details, nameOf, nextOpen, select, sortTable } from "./table.js";

export function apply(review) {
  state.reviews.set(review.landslide, review);
  state.lastVersion = Math.max(state.lastVersion, review.version);
}

// Decide on the selected landslide, or on a new one that was drawn: accepted, rejected, redrawn, drawn.
export function decide(verdict, outline = null) {
  const id = verdict === "drawn" ? null : state.selected;
  if (id === null && verdict !== "drawn") return;
  if (id > 0 && state.threshold !== null && !atInventory()) { // what is on the screen is not what would be decided on
    setThreshold(baseThreshold(), false);
    say("Nothing was decided: the inventory's own outlines are shown again. Look, then decide.");
    return;
  }
  const note = $("note").value.trim();
  queue(async () => {
    const version = id === null ? 0 : versionOf(id);
    const review = await ask("/api/reviews", { landslide: id, state: verdict, version, outline, note });
    warn("");
    apply(review);
    state.undoable.push(review.decision);
    state.redoable = [];
    keepHistory();
    $("note").value = "";
    const accepted = verdict === "accepted" && review.state !== verdict;
    const outcome = accepted ? `accepted as it was ${review.state}` : review.state;
    say(`${capital(nameOf(review.landslide))} ${outcome}. Saved.`);
    goOn(id, review.landslide);
    await refresh();
  });
}

// After a decision go on to the next open landslide, where that is ticked; what was drawn becomes the selected one.
function goOn(id, landslide) {
  const advances = $("advance").checked && id !== null;
  const next = advances && state.selected === id ? nextOpen(id) : null;
  if (id === null) state.selected = landslide;
  sortTable();
  if (next !== null) select(next);
  else details();
  if (advances && next === null && state.order.every((one) => standingOf(one) !== "open")) {
    say("Every landslide of the table is decided.");
  }
}

export const undo = () => back("undo", "undoable", "redoable");
export const redo = () => back("redo", "redoable", "undoable");

// Take the last decision back, or make the last one again: it goes from one list to the other.
function back(step, from, to) {
  queue(async () => {
    const decision = state[from].pop();
    if (decision === undefined) return;
    let review;
    try {
      review = await ask(`/api/reviews/${step}`, { decision });
    } catch (error) {
      if (!error.status || error.status >= 500) state[from].push(decision); // it may still be done later
      keepHistory();
      details();
      throw error;
    }
    warn("");
    state[to].push(decision);
    apply(review);
    keepHistory();
    const removed = review.landslide < 0 && review.state === "open";
    const outcome = `${nameOf(review.landslide)} is ${removed ? "removed" : review.state}`;
    say(`${step === "redo" ? "Again" : "Undone"}: ${outcome}. Saved.`);
    state.selected = removed ? null : review.landslide;
    sortTable();
    details();
    if (state.selected !== null) fly(state.selected);
    await refresh();
  });
}

// Hear of what other windows decided; not while nobody looks at the page, unless it is wanted now.
export async function poll(now = false) {
  if (document.hidden && !now) return;
  const answer = await ask(`/api/reviews?since=${state.lastVersion}`).catch(() => null);
  if (!answer) return;
  const news = answer.reviews.filter((one) => one.version > versionOf(one.landslide));
  if (!news.length) return;
  news.forEach(apply);
  sortTable();
  details();
  refresh();
  const what = news.length === 1 ? `landslide ${news[0].landslide}` : `${news.length} landslides`;
  if (!now) say(`Another window decided on ${what}.`);
}

// Decisions are made one after the other, in the order of the keys: each on what the last one left.
function queue(work) {
  state.work = state.work.then(work).catch(async (error) => {
    warn(error.message);
    if (error.status === 409) await poll(true);
  });
}
