// What stays of a conversation: a note and how it came out. Both are kept while they are written.

import { desk } from "./desk.js";
import { say, worded } from "./language.js";
import { Part, define, html, live, nothing } from "./part.js";

class WorkWrapUp extends Part {
  static properties = { work: { attribute: false } };

  render() {
    const { work } = this;
    if (!work.card.can.includes("note")) return nothing;
    const { text, disposition } = work.draft;
    const kept = work.kept && (text || disposition);
    return html`<section class="card wrap-up ${work.card.stage}"><h2>${say("wrap_up")}</h2>
      <fieldset class="choices"><legend>${say("disposition")}</legend>${desk.dispositions.map((name) => html`
        <label><input type="radio" name="disposition" value=${name} .checked=${live(disposition === name)}
          @change=${() => desk.draft(work, { disposition: name })}><span>${worded(name)}</span></label>`)}</fieldset>
      <label><span>${say("note")}</span><textarea rows="3" maxlength="4000" dir="auto" .value=${live(text)}
        @input=${(event) => desk.draft(work, { text: event.target.value })}
        @change=${() => desk.keepNote(work)}></textarea></label>
      <p class="quiet kept" role="status">${kept && !desk.asks(work.card.conversation, "note") ? say("kept") : ""}</p>
    </section>`;
  }
}
define("work-wrap-up", WorkWrapUp);
