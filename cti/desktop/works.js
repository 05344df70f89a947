// The conversations in hand: one call and several chats, each with what is new in it. The arrow keys
// move among them, and only one of them is in the tab order.

import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, classMap, define, html, nothing, repeat, svg } from "./part.js";

const drawn = (path) => html`<svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" class="sign"
  fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">${path}</svg>`;
const SIGNS = {
  call: drawn(svg`<path d="M5 4h4l2 5-2.5 1.5a11 11 0 0 0 5 5L15 13l5 2v4a1 1 0 0 1-1 1A15 15 0 0 1 4 5a1 1 0 0 1 1-1z"/>`),
  chat: drawn(svg`<path d="M4 5h16v11H10l-5 4v-4H4z"/>`),
  message: drawn(svg`<path d="M3.5 6h17v12h-17z M3.5 7l8.500 6.500L20.500 7"/>`),
};
const ORDER = ["call", "chat", "message"];

export const inOrder = () => [...desk.works.values()].sort(
  (a, b) => ORDER.indexOf(a.card.kind) - ORDER.indexOf(b.card.kind));

export const customer = (card) => card.contact?.name || card.name || card.number || say("unknown_customer");

export function stageText(card) {
  const key = card.kind === "call" ? card.stage : `text_${card.stage}`;
  return say(`stage_${key}`);
}

class AgentWorks extends Part {
  render() {
    return html`<nav class="works" aria-label=${say("works")} @keydown=${this._move}><ul>
      ${repeat(inOrder(), (work) => work.card.conversation, (work) => this._row(work))}</ul></nav>`;
  }

  _row(work) {
    const { card } = work;
    const chosen = card.conversation === desk.selected;
    const last = [...work.messages.values()].at(-1);
    const waits = card.stage === "offered" || card.stage === "ringing";
    return html`<li><button type="button" class=${classMap({ row: true, chosen, waits, [card.stage]: true })}
        aria-current=${chosen ? "true" : nothing} tabindex=${chosen ? 0 : -1}
        data-conversation=${card.conversation} @click=${() => desk.choose(card.conversation)}>
      ${SIGNS[card.kind]}
      <span class="sr">${say(`kind_${card.kind}`)}</span>
      <strong dir="auto">${customer(card)}</strong>
      ${work.unread ? html`<b class="badge">${work.unread}<span class="sr">${say("unread")}</span></b>`
        : html`<running-time class="quiet" .since=${Date.parse(card.since)}></running-time>`}
      <span class="last quiet" dir="auto">${work.typing ? say("typing")
        : waits || card.stage === "wrap_up" || !last ? stageText(card) : last.text || last.file?.name || ""}</span>
    </button></li>`;
  }

  _move(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    const rows = [...this.querySelectorAll(".row")];
    const place = rows.indexOf(document.activeElement) + step;
    const row = rows[Math.min(rows.length - 1, Math.max(0, place))];
    desk.choose(row.dataset.conversation);
    this.updateComplete.then(() => row.focus());
  }
}
define("agent-works", AgentWorks);
