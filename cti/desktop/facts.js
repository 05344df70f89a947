// What is known of the customer's business, the most important first, each to be corrected in place;
// and the way that led here.

import { desk } from "./desk.js";
import { say, worded } from "./language.js";
import { Part, classMap, define, html, nothing, repeat } from "./part.js";

class WorkFacts extends Part {
  static properties = { work: { attribute: false }, first: { attribute: false }, _edited: { state: true } };

  render() {
    const { card } = this.work;
    const facts = card.facts.filter((fact) => fact.first === Boolean(this.first));
    const path = this.first ? [] : card.path;
    const crm = this.first || !card.crm_state || card.crm_state === "ready" ? nothing
      : html`<p class="quiet" role="status">${say(`crm_${card.crm_state}`)}</p>`;
    if (!facts.length && !path.length && crm === nothing) return nothing;
    return html`<section class="card" aria-label=${say(this.first ? "known_first" : "known")}>
      ${facts.length ? html`<dl class=${classMap({ facts: true, first: Boolean(this.first) })}>
        ${repeat(facts, (fact) => fact.name, (fact) => this._row(fact))}</dl>` : nothing}
      ${crm}
      ${path.length ? html`<h2>${say("path")}</h2><ol class="path">${path.map((step) => html`
        <li dir="auto">${step}</li>`)}</ol>` : nothing}
    </section>`;
  }

  _row(fact) {
    const edited = this._edited === fact.name;
    const may = this.work.card.can.includes("fact");
    const source = fact.source === "flow" ? "" : fact.source === "crm" ? say("source_crm") : say("source_agent", fact.source);
    return html`<div><dt dir="auto">${worded(fact.name)}</dt><dd>
      ${edited ? html`<form class="row" @submit=${this._correct} @keydown=${this._leave}>
          <input name="value" maxlength="200" dir="auto" .value=${fact.value} aria-label=${worded(fact.name)}>
          <button class="small primary">${say("save")}</button></form>`
        : html`<span class="value" dir="auto">${fact.value}</span>
          ${source ? html`<small class="quiet" dir="auto">${source}</small>` : nothing}
          ${may ? html`<button type="button" class="plain small pen" aria-label=${say("correct", worded(fact.name))}
            title=${say("correct", worded(fact.name))} @click=${() => this._edit(fact.name)}>✎</button>` : nothing}`}
    </dd></div>`;
  }

  async _edit(name) {
    this._edited = name;
    await this.updateComplete;
    this.querySelector("dd input")?.select();
  }

  async _correct(event) {
    event.preventDefault();
    const name = this._edited;
    const outcome = await desk.order("fact",
      { conversation: this.work.card.conversation, name, value: event.target.elements.value.value });
    if (outcome.result === "done" && this._edited === name) this._edited = "";
  }

  _leave(event) { if (event.key === "Escape") { event.stopPropagation(); this._edited = ""; } }
}
define("work-facts", WorkFacts);
