// One conversation: who, why, what was said, what is to be done with it.

import "./callbar.js";
import "./chat.js";
import "./contact.js";
import "./facts.js";
import "./past.js";
import "./wrapup.js";
import { languageName, minutes, say } from "./language.js";
import { Part, define, html, nothing } from "./part.js";
import { customer } from "./works.js";

class WorkCard extends Part {
  static properties = { work: { attribute: false } };

  render() {
    const { work } = this;
    const { card } = work;
    const texts = card.kind !== "call";
    return html`<article class="work ${card.kind}" aria-labelledby="who">
      <call-bar .work=${work}></call-bar>
      ${card.context || card.from_agent ? html`<section class="card handed" aria-label=${say("handed_over")}>
        <h2>${say("from_agent")} <bdi>${card.from_agent}</bdi></h2>
        <p dir="auto">${card.context}</p></section>` : nothing}
      <div class="columns">
        <div class="column">
          ${texts ? html`<work-chat .work=${work}></work-chat>` : html`${this._who(card)}
            <work-facts .work=${work} .first=${true}></work-facts>`}
          <work-wrap-up .work=${work}></work-wrap-up>
          ${texts ? nothing : html`<work-facts .work=${work}></work-facts>`}
        </div>
        <div class="column">
          ${texts ? html`${this._who(card)}<work-facts .work=${work} .first=${true}></work-facts>
            <work-facts .work=${work}></work-facts>` : nothing}
          <work-past .work=${work}></work-past>
        </div>
      </div>
    </article>`;
  }

  _who(card) {
    const shownName = customer(card);
    return html`<section class="card who">
      ${card.topic ? html`<p class="topic" dir="auto">${card.topic}</p>` : nothing}
      <h1 id="who" dir="auto">${shownName}</h1>
      <p class="number">${card.number ? html`<bdi>${card.number === shownName ? "" : card.number}</bdi>`
        : card.kind === "call" ? say("withheld") : nothing} ${card.number ? html`<span class="verified ${card.verified === "verified" ? "proved" : card.verified}">${
          say(`verified_${card.verified}`)}</span>` : nothing}</p>
      <p class="chips"><span>${say(`channel_${card.channel}`)}</span>
        <span>${say("waited", minutes(card.waited))}</span>
        ${card.language ? html`<span>${languageName(card.language)}</span>` : nothing}
        ${card.dialled ? html`<span>${say("dialled", card.dialled)}</span>` : nothing}</p>
      <work-contact .work=${this.work}></work-contact>
    </section>`;
  }
}
define("work-card", WorkCard);
