// The bar on top: who one is, presence, the line, the telephone in the page, and the settings.

import "./phone.js";
import { alarm } from "./alarm.js";
import { desk } from "./desk.js";
import { minutes, say, worded } from "./language.js";
import { otherLanguage } from "./login.js";
import { Part, define, html, live, nothing } from "./part.js";
import { preferences } from "./preferences.js";
import { softphone } from "./softphone.js";

class AgentBar extends Part {
  connectedCallback() {
    super.connectedCallback();
    this._timer = setInterval(this._drawAgain, 1000);
    this._outside = (event) => {
      const menu = this.querySelector("details[open]");
      if (menu && (event.key === "Escape" || (event.type === "click" && !menu.contains(event.target)))) {
        menu.open = false;
        if (event.key) menu.querySelector("summary").focus();
      }
    };
    addEventListener("keydown", this._outside);
    addEventListener("click", this._outside);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this._timer);
    removeEventListener("keydown", this._outside);
    removeEventListener("click", this._outside);
  }

  render() {
    const { agent } = desk;
    return html`<header class="bar">
      <img src="/agent/icon.svg" alt="" width="28" height="28">
      <p class="me"><strong dir="auto">${agent.name || agent.login}</strong>
        ${agent.extension ? html`<span class="quiet">${say("extension", agent.extension)}</span>` : nothing}</p>
      ${this._presence()}
      ${this._queue()}
      <agent-phone></agent-phone>
      ${agent.roles.includes("supervisor") ? html`<a class="button" href="/wallboard">${say("wallboard")}</a>` : nothing}
      ${this._settings()}
    </header>`;
  }

  _presence() {
    const { state, reason, since } = desk.presence;
    const reasons = desk.reasons.includes(reason) || !reason || state !== "away"
      ? desk.reasons : [...desk.reasons, reason];
    const away = (why) => html`<option value="away ${why}" .selected=${state === "away" && reason === why}>${
      why ? `${say("away")}: ${worded(why)}` : say("away")}</option>`;
    return html`<label class="presence ${state}"><span class="sr">${say("presence")}</span>
      <span class="dot" aria-hidden="true"></span>
      <select id="presence" .value=${live(state === "available" ? "available" : `away ${reason}`)}
        @change=${this._choose}>
        <option value="available" .selected=${state === "available"}>${say("available")}</option>
        ${["", ...reasons].map(away)}
      </select>
      <running-time class="quiet" .since=${Date.parse(since)}></running-time></label>`;
  }

  _choose(event) {
    const [to, ...reason] = event.target.value.split(" ");
    desk.setPresence(to, reason.join(" "));
  }

  _queue() {
    const { waiting, longest } = desk.queue;
    const waited = longest + (Date.now() - desk.queueAt) / 1000;
    return html`<p class="queue ${waiting ? "busy" : ""}">${
      waiting ? say("queue", String(waiting), minutes(waited)) : say("queue_empty")}</p>`;
  }

  _settings() {
    const check = (name, label, changed) => html`<label class="check"><input type="checkbox" name=${name}
      .checked=${live(preferences[name])} @change=${(event) => { preferences[name] = event.target.checked;
        changed?.(event.target.checked); this.requestUpdate(); }}><span>${say(label)}</span></label>`;
    return html`<details class="menu">
      <summary aria-label=${say("settings")} title=${say("settings")}>☰</summary>
      <div class="card">
        ${check("sound", "set_sound", () => alarm.try())}
        ${check("notify", "set_notify", (on) => on && alarm.allow().then(this._drawAgain))}
        ${preferences.notify && alarm.refused ? html`<p class="error">${say("notify_refused")}</p>` : nothing}
        ${softphone.possible && desk.agent.extension ? check("softphone", "set_softphone", () => softphone.restart()) : nothing}
        ${softphone.possible && preferences.softphone ? check("autoAnswer", "set_auto_answer") : nothing}
        ${check("shortcuts", "set_shortcuts")}
        <button type="button" class="plain" @click=${() => document.querySelector("shortcut-help").show()}>${
          say("shortcuts")} <kbd>?</kbd></button>
        ${otherLanguage(this)}
        <button type="button" class="plain" id="logout" @click=${() => desk.logOut()}>${say("logout")}</button>
      </div></details>`;
  }
}
define("agent-bar", AgentBar);
