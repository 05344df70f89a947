// What was said before a person came, what colleagues wrote down, and the conversations before this
// one, over whichever channel.

import { clock, day, say, worded } from "./language.js";
import { Part, classMap, define, html, nothing } from "./part.js";

class WorkPast extends Part {
  static properties = { work: { attribute: false } };

  render() {
    const { transcript, notes, earlier } = this.work.card;
    return html`
      ${transcript.length ? html`<section class="card"><h2>${say("transcript")}</h2>
        <ol class="transcript" tabindex="0" aria-label=${say("transcript")}>${transcript.map((line) => html`
          <li class=${classMap({ ours: line.who !== "caller", misheard: line.misheard })}>
            <small>${say(line.who === "caller" ? "customer" : "hotline")} · ${clock(line.at)}${
              line.misheard ? ` · ${say("misheard")}` : ""}</small>
            <p dir="auto">${line.text}</p></li>`)}</ol></section>` : nothing}
      ${notes.length ? html`<section class="card"><h2>${say("notes")}</h2>
        <ul class="earlier">${notes.map((note) => html`<li><p dir="auto">${note.text}</p>
          <small><bdi>${note.agent}</bdi> · ${day(note.at)}</small></li>`)}</ul></section>` : nothing}
      <section class="card"><h2>${say("earlier")}</h2>
        ${earlier.length ? html`<ol class="earlier">${earlier.map((past) => html`<li>
          <strong dir="auto">${[past.topic, past.outcome].filter(Boolean).map(worded).join(" · ") || say("conversation")}</strong>
          <small>${day(past.at)}${past.channel ? ` · ${say(`channel_${past.channel}`)}` : ""}${
            past.agent ? html` · <bdi>${say("with_agent", past.agent)}</bdi>` : nothing}</small>
          ${past.note ? html`<p dir="auto">${past.note}</p>` : nothing}</li>`)}</ol>`
        : html`<p class="quiet">${say("no_earlier")}</p>`}</section>`;
  }

  updated() {
    const { length } = this.work.card.transcript;
    if (length === this._length) return;
    this._length = length;
    const list = this.querySelector(".transcript");
    if (list) list.scrollTop = list.scrollHeight;
  }
}
define("work-past", WorkPast);
