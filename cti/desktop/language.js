// How the agent's page speaks: its texts in the agent's language, and times, sizes and names as
// people write them.

import { TEXTS } from "./agent-texts.js";
import { stored } from "./session.js";

const LOCALES = { en: undefined, zh: "zh-CN" };
let current = stored(localStorage, "language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
if (!TEXTS[current]) current = "en";

export const language = () => current;

export function setLanguage(to) {
  current = stored(localStorage, "language", to);
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
}

export const known = (key) => key in TEXTS[current];

export function say(key, ...values) {
  const text = TEXTS[current][key] ?? key;
  return values.reduce((filled, value, place) => filled.replace(`{${place}}`, () => value), text);
}

// Names from flows and settings: in the agent's language where we have them, as words otherwise.
export const worded = (name) => (known(name) ? say(name) : name.replace(/[._]/g, " "));

export function minutes(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  return whole < 3600
    ? `${Math.floor(whole / 60)}:${rest}`
    : `${Math.floor(whole / 3600)}:${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}:${rest}`;
}

const when = (at, form) => new Intl.DateTimeFormat(LOCALES[current], form).format(new Date(at));
export const clock = (at) => when(at, { hour: "2-digit", minute: "2-digit" });
export const day = (at) => when(at, { dateStyle: "medium", timeStyle: "short" });

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB"];
  let place = 0;
  for (; count >= 1024 && place < units.length - 1; place += 1) count /= 1024;
  return `${count.toFixed(count < 10 && place ? 1 : 0)} ${units[place]}`;
}

export function languageName(code) {
  try {
    return new Intl.DisplayNames([LOCALES[current] ?? "en"], { type: "language" }).of(code);
  } catch { return code; }
}

// For titles and notifications, which take no markup but would obey marks of direction.
export const flat = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, " ");

setLanguage(current);
