// What the page knows at the moment: one object that all modules read, and what follows from it alone.

export const state = {
  // of the run, as the server has it
  run: null,
  layers: new Map(), // by key
  landslides: new Map(), // rows of the inventory by id
  reviews: new Map(), // what stands of a landslide by its id: what the server has said it has kept, and nothing else
  lastVersion: 0, // of a review that the page has heard of
  // of the map
  map: null,
  panes: null, // elements of the two layers: left, right
  sides: { left: null, right: null }, // of each: its key, its layer (null: none) and Leaflet's tiles of it
  swipe: 0.5, // share of the map that shows the left layer
  outlines: null, // groups on the map: outlines of landslides, candidates at a threshold, what marks the selected one
  candidates: null,
  marks: null,
  request: 0, // number of the last request for outlines; an answer to an earlier one is dropped
  flight: null, // centre and zoom that the map flies to
  // of what is looked at
  threshold: null,
  counts: null, // hits, misses, false alarms and scores of the part that is chosen, at every threshold
  selected: null, // id
  order: [], // ids in the order of the table
  shownRows: 0,
  drawing: null, // while one draws: what it will be decided as, its corners, and its lines on the map
  // of what was decided here, by decision: what can be taken back, and what can be made again
  undoable: [],
  redoable: [],
  work: Promise.resolve(), // ends with the last decision that was asked for
};

export const standingOf = (id) => state.reviews.get(id)?.state ?? "open";
export const versionOf = (id) => state.reviews.get(id)?.version ?? 0;

// Of the outline that is shown, which may be a redrawn one.
export const areaOf = (id) => state.reviews.get(id)?.area_m2 ?? state.landslides.get(id)?.attributes.area_m2 ?? null;
export const meanOf = (id) => state.landslides.get(id)?.attributes.probability_mean ?? null;

// Ids of what was drawn here are below 0.
export const drawnIds = () => [...state.reviews.keys()].filter((id) => id < 0 && standingOf(id) !== "open");

// Where reviews are made: at the inventory's threshold, else at the map's.
export const baseThreshold = () => state.run.inventory_threshold ?? state.run.threshold;

export function atInventory() {
  const { run, threshold } = state;
  if (run.inventory_threshold === null) return false;
  return threshold === null || Math.abs(threshold - run.inventory_threshold) < 5e-7;
}
