// What the parts of the agent's page have in common: they stand in the page itself (one style sheet,
// labels that reach across), and draw themselves anew when the desk says that something has changed.
// Everything from customers goes through lit's text bindings, which make text and nothing else.

import { desk } from "./desk.js";
import { minutes } from "./language.js";
import { LitElement, html, nothing } from "./vendor/lit.js";

export { classMap, html, keyed, live, nothing, repeat, svg } from "./vendor/lit.js";

export class Part extends LitElement {
  constructor() {
    super();
    this._drawAgain = () => this.requestUpdate();
  }

  createRenderRoot() { return this; }

  // What has just been taken off the page may no longer find what it would show.
  shouldUpdate() { return this.isConnected; }

  connectedCallback() {
    super.connectedCallback();
    desk.addEventListener("change", this._drawAgain);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    desk.removeEventListener("change", this._drawAgain);
  }
}

export const define = (name, part) => customElements.define(name, part);

// A button that stands for an order: shown when the card allows it, busy until it is answered.
export function orderButton(work, type, label, { act, className = "", key = "" } = {}) {
  const { conversation, can } = work.card;
  if (!can.includes(type)) return nothing;
  const asked = desk.asks(conversation, type);
  return html`<button type="button" class=${className} data-order=${type} aria-keyshortcuts=${key || nothing}
    aria-busy=${asked ? "true" : nothing} ?disabled=${asked}
    @click=${act ?? (() => desk.order(type, { conversation }))}>${label}</button>`;
}

// How long since, or how long until, counted on.
class RunningTime extends LitElement {
  static properties = { since: { attribute: false }, until: { attribute: false } };

  createRenderRoot() { return this; }

  connectedCallback() {
    super.connectedCallback();
    this._timer = setInterval(() => this.requestUpdate(), 500);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this._timer);
  }

  render() {
    const seconds = this.until
      ? Math.ceil((this.until - desk.now()) / 1000) : (desk.now() - this.since) / 1000;
    return Number.isFinite(seconds) ? html`<time>${minutes(seconds)}</time>` : nothing;
  }
}
define("running-time", RunningTime);
