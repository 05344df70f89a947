// A text to the customer over another of their channels, beside the call.

import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, define, html } from "./part.js";

class TextTo extends Part {
  static properties = { work: { attribute: false } };

  render() {
    const { channels } = this.work.card;
    return html`<form class="card panel" aria-label=${say("text_to")} @submit=${this._submit} @keydown=${this._leave}>
      <label><span>${say("channel")}</span><select name="channel">${channels.map((one) => html`
        <option value=${one}>${say(`channel_${one}`)}</option>`)}</select></label>
      <label><span>${say("text")}</span><textarea name="text" rows="3" maxlength="4000" required dir="auto"></textarea></label>
      <div class="row"><button class="primary">${say("send")}</button><span class="grow"></span>
        <button type="button" class="plain" @click=${this._close}>${say("close")}</button></div></form>`;
  }

  async _submit(event) {
    event.preventDefault();
    const { channel, text } = event.target.elements;
    const outcome = await desk.order("text_to",
      { conversation: this.work.card.conversation, channel: channel.value, text: text.value });
    if (outcome.result !== "done") return;
    desk.notice(say("text_sent", say(`channel_${channel.value}`)));
    this._close();
  }

  _leave(event) { if (event.key === "Escape") { event.stopPropagation(); this._close(); } }
  _close() { this.dispatchEvent(new Event("close")); }
}
define("text-to", TextTo);
