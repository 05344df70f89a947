// The thread of a chat or of messages, and where the answer is written.

import { desk } from "./desk.js";
import { bytes, clock, language, say, worded } from "./language.js";
import { Part, classMap, define, html, live, nothing, repeat } from "./part.js";
import { stored } from "./session.js";
import { customer } from "./works.js";

const SLOT = /\{([\w.]+)\}/g;

// A canned reply with what the card knows put in; what it does not know stays to be filled in.
export function filled(text, card, agent) {
  const values = { name: card.contact?.name || card.name, agent: agent.name, number: card.number, topic: card.topic };
  for (const fact of card.facts) values[fact.name] = fact.value;
  return text.replace(SLOT, (slot, name) => values[name] || slot);
}

class WorkChat extends Part {
  static properties = { work: { attribute: false } };

  render() {
    const { work } = this;
    const messages = [...work.messages.values()].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
    return html`<section class="card chatbox" aria-label=${say("thread")}>
      <ol class="thread" role="log" aria-live="polite" tabindex="0" aria-label=${say("thread")}>
        ${repeat(messages, (message) => message.id, (message) => this._message(message))}
      </ol>
      <p class="typing quiet" role="status">${work.typing ? html`<bdi>${customer(work.card)}</bdi> ${say("typing")}` : ""}</p>
      ${work.card.can.includes("say") ? this._composer() : nothing}
    </section>`;
  }

  _message({ who, name, text, at, file, status }) {
    const author = who === "customer" ? customer(this.work.card) : who === "flow" ? say("hotline") : name || say("agent");
    return html`<li class=${classMap({ ours: who !== "customer", flow: who === "flow", failed: status === "failed" })}>
      <small><bdi>${author}</bdi> · <time datetime=${at}>${clock(at)}</time></small>
      ${text ? html`<p dir="auto">${text}</p>` : nothing}
      ${file ? html`<p class="file"><a href=${safe(file.url)} download=${file.name} @click=${(event) =>
        this._fetch(event, file)}><bdi>${file.name}</bdi></a> <span class="quiet">${bytes(file.bytes)}</span></p>` : nothing}
      ${status ? html`<small class="status">${say(`status_${status}`)}</small>` : nothing}</li>`;
  }

  _composer() {
    const { work } = this;
    const replies = desk.replies.map((reply) => ({
      name: reply.name, text: reply.text[work.card.language] ?? reply.text[language()] ?? Object.values(reply.text)[0] ?? "",
    }));
    return html`<form class="composer" @submit=${this._send}>
      <label><span class="sr">${say("write_to", customer(work.card))}</span>
        <textarea rows="2" maxlength="4000" dir="auto" placeholder=${say("write")} .value=${live(work.reply)}
          @input=${(event) => this._typed(event.target.value)} @keydown=${this._key}></textarea></label>
      <div class="row">
        ${replies.length ? html`<label><span class="sr">${say("replies")}</span><select class="replies" .value=${live("")}
          @change=${(event) => this._insert(replies[event.target.selectedIndex - 1])}>
          <option value="">${say("replies")}</option>
          ${replies.map((reply) => html`<option value=${reply.name}>${worded(reply.name)}</option>`)}</select></label>` : nothing}
        <span class="grow"></span>
        <button class="primary" ?disabled=${!work.reply.trim()}>${say("send")}</button></div></form>`;
  }

  updated() {
    const thread = this.querySelector(".thread");
    const count = thread.childElementCount;
    // Follows what is new, unless somebody reads further up.
    const below = thread.scrollHeight - thread.scrollTop - thread.clientHeight;
    if (count !== this._count && (this._count === undefined || below < 200)) thread.scrollTop = thread.scrollHeight;
    this._count = count;
  }

  _typed(text) {
    this.work.reply = text;
    stored(sessionStorage, `reply ${this.work.card.conversation}`, text);
    if (text) desk.typing(this.work);
    this.requestUpdate();
  }

  _key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  }

  _insert(reply) {
    if (!reply) return;
    const before = this.work.reply ? `${this.work.reply.trimEnd()} ` : "";
    this._typed(before + filled(reply.text, this.work.card, desk.agent));
    this.updateComplete.then(() => {
      const box = this.querySelector("textarea");
      box.focus();
      const open = new RegExp(SLOT.source).exec(box.value);
      if (open) box.setSelectionRange(open.index, open.index + open[0].length);
      this.requestUpdate();
    });
  }

  _send(event) {
    event.preventDefault();
    const text = this.work.reply.trim();
    if (!text) return;
    desk.write(this.work, text);
    this._typed("");
    this.querySelector(".thread").scrollTop = Infinity;
  }

  async _fetch(event, file) {
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await desk.session.file(safe(file.url)));
      const link = Object.assign(document.createElement("a"), { href: url, download: file.name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch {
      desk.notice(say("file_failed"));
    }
  }
}

// A path of this server, whatever is written there.
function safe(url) {
  if (!URL.canParse(url, location.origin)) return "/";
  const whole = new URL(url, location.origin);
  return whole.origin === location.origin ? whole.pathname + whole.search : "/";
}
define("work-chat", WorkChat);
