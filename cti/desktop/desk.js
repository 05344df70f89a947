// What the page knows: no truth of its own, but what the server has said, conversation by
// conversation, and which orders it has not answered yet. The parts of the page show it and listen
// for `change`.

import { say, worded } from "./language.js";
import { Session, stored } from "./session.js";

const VERSION = 1;
const SAID_AGAIN = ["say", "text_to", "note", "fact", "contact", "read"];
const STAYS = ["talked", "transferred", "returned"];
const TYPED_FOR = 8000;
const LAST_MOMENT = 2000;

class Desk extends EventTarget {
  constructor() {
    super();
    this.session = new Session("/api/agent", {
      greeting: () => ({ v: VERSION, type: "login", stream: this.stream, after: this.n }),
      ping: { v: VERSION, type: "ping" },
    });
    this._clear();
    this.session.addEventListener("message", (event) => this._hear(event.detail));
    this.session.addEventListener("lost", () => { this.online = false; this._changed(); });
    this.session.addEventListener("out", () => { this._clear(); this._changed(); });
    setInterval(() => this._tick(), 500);
  }

  _clear() {
    Object.assign(this, {
      stream: "", n: 0, online: true, agent: null, presence: null,
      queue: { waiting: 0, longest: 0 }, queueAt: 0, works: new Map(), selected: "", skew: 0,
      dispositions: [], reasons: [], replies: [], notices: [],
    });
    this._pending = new Map();
  }

  get work() { return this.works.get(this.selected) ?? null; }
  now() { return Date.now() + this.skew; }

  // --- what the page's user does -----------------------------------------------------------------

  async logOut() {
    await Promise.all([...this.works.values()].map((work) => this.keepNote(work)));
    this._clear();
    this._changed();
    await this.session.logOut();
  }

  // Ask for something; resolves to the server's outcome. What is refused or unknown is shown.
  order(type, fields = {}) {
    const id = fields.id ?? crypto.randomUUID();
    const frame = { v: VERSION, type, ...fields, id };
    return new Promise((resolve) => {
      if (!this.session.send(frame) && !SAID_AGAIN.includes(type)) {
        const outcome = { result: "refused", text: say("offline_now") };
        this.notice(outcome.text);
        resolve(outcome);
        return;
      }
      this._pending.set(id, { frame, resolve });
      this._changed();
    });
  }

  asks(conversation, type) {
    return [...this._pending.values()].some(
      ({ frame }) => frame.conversation === conversation && frame.type === type);
  }

  choose(conversation) {
    if (!this.works.has(conversation)) return;
    if (this.work && conversation !== this.selected) this.keepNote(this.work);
    this.selected = conversation;
    this.markRead();
    this._changed();
  }

  async setPresence(to, reason = "") {
    await Promise.all([...this.works.values()].map((work) => this.keepNote(work)));
    return this.order("presence", to === "away" ? { to, reason } : { to });
  }

  write(work, text) {
    const id = crypto.randomUUID();
    const mine = { id, who: "agent", name: this.agent.name, text, at: new Date(this.now()).toISOString(),
      file: null, status: "sending" };
    work.messages.set(id, mine);
    this._typed(work, false);
    this.order("say", { id, conversation: work.card.conversation, text }).then((outcome) => {
      const shown = work.messages.get(id);
      if (shown?.status !== "sending") return;
      work.messages.set(id, { ...shown, status: outcome.result === "done" ? "sent" : "failed" });
      this._changed();
    });
  }

  typing(work) {
    clearTimeout(work.typingStops);
    work.typingStops = setTimeout(() => this._typed(work, false), 4000);
    if (Date.now() - work.typedAt > 3000) this._typed(work, true);
  }

  _typed(work, on) {
    if (!on) clearTimeout(work.typingStops);
    if (!on && !work.typedAt) return;
    work.typedAt = on ? Date.now() : 0;
    this.session.send({ v: VERSION, type: "typing", conversation: work.card.conversation, on });
  }

  // What the agent has in front of them is read.
  markRead() {
    const work = this.work;
    if (!work || document.hidden || work.card.stage === "offered") return;
    work.unread = 0;
    const last = [...work.messages.values()].findLast((message) => message.who === "customer");
    if (!last || last.id === work.readUpTo) return;
    work.readUpTo = last.id;
    this.session.send({ v: VERSION, type: "read", conversation: work.card.conversation, up_to: last.id });
  }

  // --- notes -------------------------------------------------------------------------------------

  draft(work, change) {
    Object.assign(work.draft, change);
    work.kept = false;
    stored(sessionStorage, `draft ${work.card.conversation}`, JSON.stringify(work.draft));
    clearTimeout(work.keeping);
    work.keeping = setTimeout(() => this.keepNote(work), 1500);
    this._changed();
  }

  async keepNote(work) {
    const { text, disposition } = work.draft;
    clearTimeout(work.keeping);
    if (work.kept || !work.card.can.includes("note")) return;
    work.kept = true;
    const outcome = await this.order("note", { conversation: work.card.conversation, text, disposition });
    if (outcome.result !== "done") work.kept = false;
    this._changed();
  }

  async finish(work) {
    await this.keepNote(work);
    return this.order("done", { conversation: work.card.conversation });
  }

  // --- what is told for a moment -----------------------------------------------------------------

  notice(text, seconds = 8) {
    const one = { text, key: crypto.randomUUID() };
    this.notices = [...this.notices.filter((other) => other.text !== text), one].slice(-3);
    setTimeout(() => this.unnotice(one.key), seconds * 1000);
    this._changed();
  }

  unnotice(key) {
    this.notices = this.notices.filter((one) => one.key !== key);
    this._changed();
  }

  // --- what the server says ----------------------------------------------------------------------

  _hear(message) {
    if (message.n > this.n) this.n = message.n;
    received[message.type]?.(this, message);
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
    this._changed();
  }

  // Take in a card; the first of an offer is acknowledged, and the phone rings upon that.
  card(card) {
    const id = card.conversation;
    let work = this.works.get(id);
    const fresh = !work;
    if (!work) {
      const kept = stored(sessionStorage, `draft ${id}`);
      work = {
        card, messages: new Map(), unread: 0, readUpTo: "", typing: false, typingUntil: 0, typedAt: 0,
        ringUntil: 0, kept: !kept, draft: kept ? JSON.parse(kept) : { text: "", disposition: "" },
        reply: stored(sessionStorage, `reply ${id}`) ?? "",
      };
      this.works.set(id, work);
    }
    work.card = card;
    for (const message of card.messages) work.messages.set(message.id, message);
    // A call comes to the front, unless that would take the keyboard from somebody who is writing.
    const writing = document.activeElement?.matches("input, textarea");
    if (!this.work || (fresh && card.kind === "call" && !writing)) this.selected = id;
    if (fresh && card.stage === "offered") {
      // Once it is on the screen, not before.
      requestAnimationFrame(() => this.session.send({ v: VERSION, type: "seen", conversation: id }));
      if (document.hidden) this.session.send({ v: VERSION, type: "seen", conversation: id });
    }
    if (id === this.selected) this.markRead();
    return fresh;
  }

  drop(conversation) {
    const work = this.works.get(conversation);
    if (!work) return;
    clearTimeout(work.keeping);
    this.works.delete(conversation);
    stored(sessionStorage, `draft ${conversation}`, null);
    stored(sessionStorage, `reply ${conversation}`, null);
    if (this.selected !== conversation) return;
    const left = [...this.works.values()];
    const next = left.find((one) => one.unread) ?? left[0];
    this.selected = next?.card.conversation ?? "";
    this.markRead();
  }

  // After the connection was lost: what can be asked again without harm is, the rest is unknown.
  back() {
    this.online = true;
    for (const [id, { frame, resolve }] of this._pending) {
      if (SAID_AGAIN.includes(frame.type)) { this.session.send(frame); continue; }
      this._pending.delete(id);
      this.notice(say("outcome_unknown", worded(frame.type)));
      resolve({ result: "unknown", text: "" });
    }
  }

  answer(id, outcome) {
    const asked = this._pending.get(id);
    if (!asked) return;
    this._pending.delete(id);
    if (outcome.result !== "done") {
      const text = outcome.text || say(outcome.result === "unknown" ? "outcome_unknown" : "outcome_refused",
        worded(asked.frame.type));
      this.notice(text);
    }
    asked.resolve(outcome);
  }

  _tick() {
    for (const work of this.works.values()) {
      if (work.typing && Date.now() > work.typingUntil) { work.typing = false; this._changed(); }
      const left = Date.parse(work.card.until) - this.now();
      if (work.card.stage === "wrap_up" && left < LAST_MOMENT) this.keepNote(work);
    }
  }

  _changed() { this.dispatchEvent(new Event("change")); }
}

const received = {
  hello(desk, message) {
    const { stream, agent, presence, queue, dispositions, reasons, replies } = message;
    Object.assign(desk, { stream, n: message.n, agent, presence, queue, dispositions, reasons, replies });
    desk.queueAt = Date.now();
    desk.skew = Date.parse(message.now) - Date.now();
    const there = new Set(message.cards.map((card) => card.conversation));
    for (const id of [...desk.works.keys()]) if (!there.has(id)) desk.drop(id);
    for (const card of message.cards) desk.card(card);
    desk.back();
  },
  resumed(desk) { desk.back(); },
  presence(desk, message) { desk.presence = message; },
  queue(desk, message) { desk.queue = message; desk.queueAt = Date.now(); },
  pop(desk, message) {
    if (desk.card(message.card)) desk.dispatchEvent(new CustomEvent("offer", { detail: message.card }));
  },
  ringing(desk, message) {
    const work = desk.works.get(message.conversation);
    if (work) work.ringUntil = Date.now() + message.seconds * 1000;
  },
  answered() {},
  ended(desk, message) {
    if (STAYS.includes(message.outcome)) return;
    desk.drop(message.conversation);
    if (message.outcome === "gone" || message.outcome === "failed") desk.notice(say(message.outcome));
  },
  message(desk, { conversation, message }) {
    const work = desk.works.get(conversation);
    if (!work) return;
    const isNew = !work.messages.has(message.id);
    work.messages.set(message.id, message);
    if (message.who !== "customer" || !isNew) return;
    work.typing = false;
    work.unread += 1;
    if (conversation === desk.selected) desk.markRead();
  },
  typing(desk, message) {
    const work = desk.works.get(message.conversation);
    if (work) Object.assign(work, { typing: message.on, typingUntil: Date.now() + TYPED_FOR });
  },
  read(desk, message) {
    const work = desk.works.get(message.conversation);
    if (!work?.messages.has(message.up_to)) return;
    for (const [id, one] of work.messages) {
      if (one.who !== "customer" && one.status !== "failed") work.messages.set(id, { ...one, status: "read" });
      if (id === message.up_to) break;
    }
  },
  noted() {},
  wrapped(desk, message) { desk.drop(message.conversation); },
  outcome(desk, message) { desk.answer(message.id, message); },
  pong() {},
  error(desk, message) { if (message.code !== "login") desk.notice(message.text); },
};

export const desk = new Desk();
document.addEventListener("visibilitychange", () => desk.markRead());
