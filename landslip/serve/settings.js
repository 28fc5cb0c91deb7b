// What stays with the browser: the layers and ticks that were chosen last, and what this window can undo.

import { $ } from "./dom.js";
import { state } from "./state.js";

const MOST_STEPS = 500; // of undoing that a window remembers

export function keepSettings() {
  const { left, right } = state.sides;
  const settings = {
    left: left?.key, right: right?.key,
    shortcuts: $("shortcuts").checked, advance: $("advance").checked, sort: $("sort").value,
  };
  try { localStorage.setItem("settings", JSON.stringify(settings)); } catch { /* private mode keeps nothing */ }
}

export function lastSettings() {
  try { return JSON.parse(localStorage.getItem("settings")) ?? {}; } catch { return {}; }
}

export function keepHistory() {
  const history = { done: state.undoable.slice(-MOST_STEPS), undone: state.redoable.slice(-MOST_STEPS) };
  try { sessionStorage.setItem("history", JSON.stringify(history)); } catch { /* private mode keeps nothing */ }
}

export function findHistory() {
  let history = null;
  try { history = JSON.parse(sessionStorage.getItem("history")); } catch { /* as if there were none */ }
  ({ done: state.undoable, undone: state.redoable } = history ?? { done: [], undone: [] });
  const standing = [...state.reviews.values()].map((one) => one.decision).filter(Boolean).sort((a, b) => a - b);
  if (!state.undoable.some((decision) => standing.includes(decision))) { // a page opened anew can undo too
    state.undoable = standing;
    state.redoable = [];
  }
}
