// The telephone's corner of the bar: whether the page is a telephone, what it does now, how loud both
// sides are, and a number to call.

import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, define, html, nothing } from "./part.js";
import { softphone } from "./softphone.js";

class AgentPhone extends Part {
  connectedCallback() {
    super.connectedCallback();
    this._level = () => {
      for (const meter of this.querySelectorAll("meter")) meter.value = softphone[meter.dataset.of];
    };
    desk.addEventListener("level", this._level);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    desk.removeEventListener("level", this._level);
  }

  render() {
    const { state, ringing, talking, muted } = softphone;
    // Where a call's card has the button, there is no second one here.
    const calls = [...desk.works.values()].map(({ card }) => card).filter(({ kind }) => kind === "call");
    const busy = calls.some(({ stage }) => stage !== "wrap_up");
    const shown = calls.some(({ stage, can, conversation }) => conversation === desk.selected
      && (talking ? can.includes("hang_up") : stage === "offered" || stage === "ringing"));
    return html`<div class="phone">
      ${state === "off" ? nothing : html`<span class="phone-state ${state}" role="status"
        title=${say(`phone_${state}`)}><span aria-hidden="true">☎</span><span class="sr">${say(`phone_${state}`)}</span></span>`}
      ${ringing && !shown ? html`<button type="button" class="answer" data-order="answer" @click=${() => softphone.answer()}>${
        say("answer")}</button>` : nothing}
      ${talking ? html`
        <span class="levels"><meter data-of="heard" min="0" max="1" aria-label=${say("level_heard")}></meter>
          <meter data-of="spoken" min="0" max="1" aria-label=${say("level_spoken")}></meter></span>
        <button type="button" class="plain" aria-pressed=${String(muted)} @click=${() => softphone.mute(!muted)}>${
          say(muted ? "mic_on" : "mic_off")}</button>` : nothing}
      ${(ringing || talking) && !shown ? html`<button type="button" class="danger small" @click=${() => softphone.hangUp()}>${
        say(ringing ? "reject" : "hang_up")}</button>` : nothing}
      ${desk.agent.extension && !busy && !talking ? html`<details class="menu dial">
        <summary>${say("dial")}</summary>
        <form class="card row" @submit=${this._dial}>
          <label><span class="sr">${say("number")}</span><input name="number" type="tel" required maxlength="40"
            pattern="[+0-9 ().\\-]+" autocomplete="off" placeholder=${say("number")}></label>
          <button class="primary">${say("call")}</button></form></details>` : nothing}
    </div>`;
  }

  async _dial(event) {
    event.preventDefault();
    const { number } = event.target.elements;
    const outcome = await desk.order("dial", { number: number.value });
    if (outcome.result !== "done") return;
    event.target.reset();
    event.target.closest("details").open = false;
  }
}
define("agent-phone", AgentPhone);
