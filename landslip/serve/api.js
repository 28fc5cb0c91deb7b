// Asking the server. Every answer is JSON; a refusal carries its status and one sentence.

import { $, warn } from "./dom.js";

const LOST = "The server does not answer. Start `landslip serve` again; what it has confirmed is saved, and nothing is "
  + "saved until it is back.";
const UNSAVED = "The server does not answer. Nothing was saved.";

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; } // status 0: there was no answer
}

// GET, or POST of what is sent.
export async function ask(path, sent) {
  let answer;
  try {
    answer = await fetch(path, sent === undefined ? {} : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(sent),
    });
  } catch {
    warn(LOST);
    throw new Refused(0, UNSAVED);
  }
  if ([LOST, UNSAVED].includes($("alert").textContent)) warn("");
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, content.error || `The server answered ${answer.status}.`);
  return content;
}
