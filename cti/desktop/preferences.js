// What this agent has set for this browser; it stays here.

import { stored } from "./session.js";

const DEFAULTS = { sound: true, notify: false, softphone: true, autoAnswer: false, shortcuts: true };

export const preferences = {};
for (const [name, otherwise] of Object.entries(DEFAULTS)) {
  Object.defineProperty(preferences, name, {
    get: () => (stored(localStorage, `prefer ${name}`) ?? String(otherwise)) === "true",
    set: (on) => { stored(localStorage, `prefer ${name}`, String(on)); },
  });
}
