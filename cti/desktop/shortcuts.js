// The keys of the page, as one table, and the page that shows them. They are single letters and do
// nothing while somebody writes; who works with speech input switches them off in the settings.

import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, define, html } from "./part.js";
import { preferences } from "./preferences.js";
import { inOrder } from "./works.js";

const press = (...selectors) => {
  for (const selector of selectors) {
    const found = document.querySelector(selector);
    if (!found || found.disabled) continue;
    if (found.matches("input, textarea, select")) found.focus();
    else found.click();
    return;
  }
};

const KEYS = [
  ["1 – 9", "key_work", /^[1-9]$/, (key) => {
    const work = inOrder()[Number(key) - 1];
    if (work) desk.choose(work.card.conversation);
  }],
  ["a", "key_answer", /^a$/i, () => press("[data-order=answer]", "[data-order=accept]")],
  ["d", "key_decline", /^d$/i, () => press("[data-order=decline]")],
  ["h", "key_hold", /^h$/i, () => press("[data-order=hold]", "[data-order=retrieve]")],
  ["m", "key_mute", /^m$/i, () => press("[data-order=mute]")],
  ["t", "key_transfer", /^t$/i, () => press("[data-order=transfer]")],
  ["r", "key_reply", /^r$/i, () => press(".composer textarea")],
  ["n", "key_note", /^n$/i, () => press(".wrap-up textarea")],
  ["p", "key_presence", /^p$/i, () => press("#presence")],
  ["?", "key_help", /^\?$/, () => document.querySelector("shortcut-help").show()],
];
const MORE = [["Enter", "key_send"], ["Shift Enter", "key_line"], ["Esc", "key_leave"]];

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented) return;
  const writing = event.target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select");
  if (event.key === "Escape" && writing) { event.target.blur(); return; }
  if (writing || !desk.agent || document.querySelector("dialog[open]")) return;
  if (!preferences.shortcuts && event.key !== "?") return;
  const found = KEYS.find(([, , fits]) => fits.test(event.key));
  if (!found) return;
  event.preventDefault();
  found[3](event.key);
});

class ShortcutHelp extends Part {
  show() { this.querySelector("dialog").showModal(); }

  render() {
    return html`<dialog aria-labelledby="keys-title" @click=${this._outside}><form method="dialog">
      <h2 id="keys-title">${say("shortcuts")}</h2>
      <dl class="keys">${[...KEYS, ...MORE].map(([key, what]) => html`
        <div><dt><kbd>${key}</kbd></dt><dd>${say(what)}</dd></div>`)}</dl>
      <button class="primary">${say("close")}</button></form></dialog>`;
  }

  _outside(event) { if (event.target.localName === "dialog") event.target.close(); }
}
define("shortcut-help", ShortcutHelp);
