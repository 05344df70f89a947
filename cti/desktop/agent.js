// The agent's page: its parts put together, and what concerns all of it.

import "./bar.js";
import "./idle.js";
import "./login.js";
import "./shortcuts.js";
import "./workcard.js";
import "./works.js";
import { alarm } from "./alarm.js";
import { desk } from "./desk.js";
import { say } from "./language.js";
import { Part, define, html, keyed, nothing, repeat } from "./part.js";
import { softphone } from "./softphone.js";

class AgentPage extends Part {
  render() {
    if (!desk.session.token) return html`<agent-login></agent-login>`;
    if (!desk.agent) return html`<p class="banner" role="status">${say("connecting")}</p>`;
    const work = desk.work;
    return html`
      <a class="skip" href="#desk" @click=${this._skip}>${say("skip")}</a>
      <agent-bar></agent-bar>
      ${desk.online ? nothing : html`<p class="banner" role="alert">${say("reconnecting")}</p>`}
      <div class="desk ${desk.works.size ? "" : "empty"}">
        ${desk.works.size ? html`<agent-works></agent-works>` : nothing}
        <main id="desk" tabindex="-1">
          ${work ? keyed(work, html`<work-card .work=${work}></work-card>`) : html`<agent-idle></agent-idle>`}
        </main>
      </div>
      <div class="notices" role="log" aria-live="assertive" aria-label=${say("notices")}>
        ${repeat(desk.notices, (one) => one.key, (one) => html`
          <p class="toast"><span dir="auto">${one.text}</span>
            <button type="button" class="plain" aria-label=${say("close")}
              @click=${() => desk.unnotice(one.key)}>×</button></p>`)}
      </div>
      <shortcut-help></shortcut-help>`;
  }

  _skip(event) {
    event.preventDefault();
    document.getElementById("desk").focus();
  }
}
define("agent-page", AgentPage);

alarm.start();
softphone.start();
desk.session.start();
