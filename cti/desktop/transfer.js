// To whom a customer can be passed on: the colleagues at work, the queues, or a number.

import { desk } from "./desk.js";
import { say, worded } from "./language.js";
import { Part, define, html, nothing, repeat } from "./part.js";

const KINDS = ["agent", "queue", "number"];

class WorkTransfer extends Part {
  static properties = {
    work: { attribute: false }, _kind: { state: true }, _found: { state: true }, _wrong: { state: true },
    _value: { state: true },
  };

  constructor() {
    super();
    Object.assign(this, { _kind: "agent", _found: null, _wrong: "", _value: "" });
  }

  connectedCallback() {
    super.connectedCallback();
    this._look();
  }

  async _look() {
    try {
      this._found = await desk.session.ask("/api/directory");
    } catch (error) {
      this._wrong = error instanceof TypeError ? say("unreachable") : error.message;
    }
  }

  render() {
    const isCall = this.work.card.kind === "call";
    const kinds = isCall ? KINDS : KINDS.slice(0, 2);
    return html`<form class="card panel" aria-label=${say("transfer")} @submit=${this._submit} @keydown=${this._leave}>
      <fieldset class="choices"><legend class="sr">${say("transfer_to")}</legend>
        ${kinds.map((kind) => html`<label><input type="radio" name="kind" value=${kind} .checked=${kind === this._kind}
          @change=${() => { this._kind = kind; this._value = ""; }}><span>${say(`to_${kind}`)}</span></label>`)}</fieldset>
      ${this._targets()}
      <p class="error" role="alert">${this._wrong}</p>
      <label><span>${say("transfer_note")}</span><textarea name="note" rows="2" maxlength="4000" dir="auto"></textarea></label>
      <div class="row">
        <button class="primary" value="blind" ?disabled=${!this._value}>${say("transfer_now")}</button>
        ${isCall && this._kind !== "queue"
          ? html`<button value="attended" ?disabled=${!this._value}>${say("transfer_ask")}</button>` : nothing}
        <span class="grow"></span>
        <button type="button" class="plain" @click=${this._close}>${say("close")}</button>
      </div></form>`;
  }

  _targets() {
    if (this._kind === "number") {
      return html`<label><span>${say("number")}</span><input name="number" type="tel" required maxlength="40"
        autocomplete="off" .value=${this._value} @input=${(event) => { this._value = event.target.value; }}></label>`;
    }
    if (!this._found) return this._wrong ? nothing : html`<p class="quiet">${say("loading")}</p>`;
    const rows = this._kind === "agent"
      ? this._found.agents.filter((one) => one.login !== desk.agent.login)
      : this._found.queues.map((name) => ({ login: name, name: worded(name) }));
    if (!rows.length) return html`<p class="quiet">${say(`no_${this._kind}`)}</p>`;
    return html`<fieldset class="targets"><legend class="sr">${say(`to_${this._kind}`)}</legend>
      ${repeat(rows, (one) => one.login, (one) => html`<label><input type="radio" name="target" value=${one.login}
        .checked=${this._value === one.login} @change=${() => { this._value = one.login; }}><span>
        ${one.presence ? html`<span class="dot ${one.presence}" aria-hidden="true"></span>` : nothing}
        <bdi>${one.name}</bdi>
        ${one.presence ? html`<span class="quiet">${say(one.presence)}${
          one.skills.length ? ` · ${one.skills.map(worded).join(", ")}` : ""}</span>` : nothing}
      </span></label>`)}</fieldset>`;
  }

  async _submit(event) {
    event.preventDefault();
    const note = event.target.elements.note.value;
    await desk.keepNote(this.work);
    const outcome = await desk.order("transfer", {
      conversation: this.work.card.conversation, to: { kind: this._kind, value: this._value },
      mode: event.submitter?.value ?? "blind", note,
    });
    if (outcome.result === "done") this._close();
  }

  _leave(event) { if (event.key === "Escape") { event.stopPropagation(); this._close(); } }
  _close() { this.dispatchEvent(new Event("close")); }
}
define("work-transfer", WorkTransfer);
