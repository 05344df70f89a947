// What can be done with a conversation now: exactly the orders that its card names.

import "./textto.js";
import "./transfer.js";
import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, define, html, nothing, orderButton, repeat } from "./part.js";
import { softphone } from "./softphone.js";
import { stageText } from "./works.js";

const PAD = [..."123456789*0#"];

class CallBar extends Part {
  static properties = { work: { attribute: false }, _open: { state: true } };

  render() {
    const { work } = this;
    const { card } = work;
    const { conversation } = card;
    const button = (type, label, more) => orderButton(work, type, say(label), more);
    const calling = card.stage === "offered" || card.stage === "ringing";
    if (!card.can.includes(this._open)) this._open = "";
    return html`<section class="callbar ${card.stage}" aria-label=${say("actions")}>
      <p class="state" role="status">${stageText(card)} ${card.muted ? say("is_muted") : ""}</p>
      ${this._timer()}
      <div class="buttons">
        ${calling && card.kind === "call" && softphone.ringing ? html`<button type="button" class="answer"
          data-order="answer" aria-keyshortcuts="a" @click=${() => softphone.answer()}>${say("answer")}</button>` : nothing}
        ${button("accept", "accept", { className: "answer", key: "a" })}
        ${button("decline", "decline", { key: "d" })}
        ${button("hold", "hold", { key: "h" })}
        ${button("retrieve", "retrieve", { className: "primary", key: "h" })}
        ${orderButton(work, "mute", say(card.muted ? "unmute" : "mute"), { key: "m",
          act: () => desk.order("mute", { conversation, on: !card.muted }) })}
        ${this._opener("keys", "keypad")}
        ${this._opener("transfer", "transfer", "t")}
        ${button("complete", "complete", { className: "primary" })}
        ${button("conference", "conference")}
        ${button("cancel", "cancel_consult")}
        ${button("park", "park")}
        ${button("take", "take", { className: "primary" })}
        ${button("give_back", "give_back")}
        ${card.channels.length ? this._opener("text_to", "text_to") : nothing}
        ${button("more_time", "more_time")}
        ${orderButton(work, "done", say("done"), { className: "primary", act: () => desk.finish(work) })}
        ${button("hang_up", card.kind === "call" ? "hang_up" : "end_chat", { className: "danger" })}
      </div>
      ${this._others()}
      ${this._open === "keys" ? html`<div class="pad" role="group" aria-label=${say("keypad")} @keydown=${this._typed}>
        ${repeat(PAD, (key) => key, (key) => html`<button type="button" @click=${() => this._press(key)}>${key}</button>`)}
        <output class="pressed">${this._pressed}</output></div>` : nothing}
      ${this._open === "transfer" ? html`<work-transfer .work=${work} @close=${() => this._close()}></work-transfer>` : nothing}
      ${this._open === "text_to" ? html`<text-to .work=${work} @close=${() => this._close()}></text-to>` : nothing}
    </section>`;
  }

  _opener(type, label, key = "") {
    if (!this.work.card.can.includes(type)) return nothing;
    return html`<button type="button" data-order=${type} aria-expanded=${String(this._open === type)}
      aria-keyshortcuts=${key || nothing} @click=${() => this._toggle(type)}>${say(label)}</button>`;
  }

  _timer() {
    const { card, ringUntil } = this.work;
    if (card.stage === "wrap_up") return html`<running-time role="timer" .until=${Date.parse(card.until)}></running-time>`;
    if (card.stage === "ringing" && ringUntil > Date.now())
      return html`<running-time role="timer" .until=${ringUntil + desk.skew}></running-time>`;
    if (card.stage === "active") return html`<running-time role="timer" .since=${Date.parse(card.answered_at)}></running-time>`;
    return html`<running-time role="timer" .since=${Date.parse(card.since)}></running-time>`;
  }

  _others() {
    const { consult, parties } = this.work.card;
    const others = [...parties, ...(consult ? [consult] : [])];
    if (!others.length) return nothing;
    return html`<ul class="parties" aria-label=${say("parties")}>${others.map((one) => html`<li>
      <bdi>${one.name || one.number || say(`party_${one.role}`)}</bdi>
      <span class="quiet">${say(`party_${one.role}`)} · ${say(`party_${one.state}`)}</span></li>`)}</ul>`;
  }

  _toggle(what) {
    this._open = this._open === what ? "" : what;
    this._pressed = "";
    if (this._open) this.updateComplete.then(() => this.querySelector(".pad button, form :is(input, select, textarea)")?.focus());
  }

  _close() {
    const opener = this._open && this.querySelector(`[data-order=${this._open}]`);
    this._open = "";
    if (opener) opener.focus();
  }

  _press(key) {
    this._pressed = `${this._pressed}${key}`.slice(-16);
    this.requestUpdate();
    desk.order("keys", { conversation: this.work.card.conversation, digits: key });
  }

  _typed(event) {
    if (event.key === "Escape") this._close();
    if (!PAD.includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    this._press(event.key);
  }
}
define("call-bar", CallBar);
