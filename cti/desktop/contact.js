// Who the customer is in our book: one of those whom the number fits, or somebody new.

import { desk } from "./desk.js";
import { language, languageName, say } from "./language.js";
import { Part, define, html, nothing } from "./part.js";

const LANGUAGES = ["en", "zh"];

class WorkContact extends Part {
  static properties = { work: { attribute: false }, _editing: { state: true } };

  render() {
    const { contact, matches, can } = this.work.card;
    if (!can.includes("contact") && !contact && !matches.length) return nothing;
    return html`<div class="contact">
      ${contact ? html`<p class="quiet">${say("in_book")}${contact.numbers.length
        ? html`: <bdi>${contact.numbers.join(", ")}</bdi>` : nothing}</p>` : nothing}
      ${!contact && matches.length ? html`<p>${say("matches", String(matches.length))}</p><ul class="matches">${matches.map((one) => html`
        <li><button type="button" ?disabled=${!can.includes("contact")} @click=${() => this._choose(one)}>
          <bdi>${one.name || say("unnamed")}</bdi>
          <span class="quiet"><bdi>${one.numbers.join(", ")}</bdi></span></button></li>`)}</ul>` : nothing}
      ${can.includes("contact") && !this._editing ? html`<button type="button" class="plain small"
        @click=${this._open}>${say(contact ? "contact_edit" : "contact_new")}</button>` : nothing}
      ${this._editing ? this._form(contact) : nothing}
    </div>`;
  }

  _form(contact) {
    return html`<form class="panel" @submit=${this._save} @keydown=${this._leave}>
      <label><span>${say("name")}</span><input name="name" maxlength="200" dir="auto" required autocomplete="off"
        .value=${contact?.name ?? this.work.card.name}></label>
      <label><span>${say("language")}</span><select name="language">
        ${[...new Set([contact?.language || this.work.card.language || language(), ...LANGUAGES])].map((code) => html`
          <option value=${code}>${languageName(code)}</option>`)}</select></label>
      ${contact ? nothing : html`<label class="check"><input type="checkbox" name="remember" checked><span>${
        say("remember_number")}</span></label>`}
      <div class="row"><button class="primary small">${say("save")}</button>
        <button type="button" class="plain small" @click=${() => { this._editing = false; }}>${say("close")}</button></div>
    </form>`;
  }

  async _open() {
    this._editing = true;
    await this.updateComplete;
    this.querySelector("[name=name]").focus();
  }

  _choose(one) {
    desk.order("contact", { conversation: this.work.card.conversation, contact: one.id });
  }

  async _save(event) {
    event.preventDefault();
    const { name, language: spoken, remember } = event.target.elements;
    const outcome = await desk.order("contact", {
      conversation: this.work.card.conversation, contact: this.work.card.contact?.id ?? "",
      name: name.value, language: spoken.value, remember: remember?.checked ?? true,
    });
    if (outcome.result === "done") this._editing = false;
  }

  _leave(event) { if (event.key === "Escape") { event.stopPropagation(); this._editing = false; } }
}
define("work-contact", WorkContact);
