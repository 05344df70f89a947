// What stands there while nothing is in hand: whether customers come, and how to let them.

import { desk } from "./desk.js";
import { known, say, worded } from "./language.js";
import { Part, define, html, nothing } from "./part.js";

class AgentIdle extends Part {
  render() {
    const { state, reason } = desk.presence;
    const ready = state === "available";
    const why = !ready && reason ? (known(`why_${reason}`) ? say(`why_${reason}`) : worded(reason)) : "";
    return html`<section class="idle ${ready ? "ready" : ""}" aria-live="polite">
      <p class="mark" aria-hidden="true"></p>
      <h1>${say(ready ? "idle_available" : "idle_away")}</h1>
      <p class="quiet" dir="auto">${why || say(ready ? "idle_available_text" : "idle_away_text")}</p>
      ${ready ? nothing : html`<button type="button" id="come-back" class="primary"
        @click=${() => desk.setPresence("available")}>${say("come_back")}</button>`}
    </section>`;
  }
}
define("agent-idle", AgentIdle);
