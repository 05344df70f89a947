// The agent's pop in a page of another program. It talks to the page around it by postMessage, in
// messages {hotline: 1, type, …} that docs/embedding.md lists, and to the sites of the settings alone:
// to others nothing is sent, and what they send is not read.

import { Refused, Session } from "./session.js";
import { language, setLanguage } from "./language.js";
import { LitElement, html, repeat } from "./vendor/lit.js";

const VERSION = 1;
const TEXTS = {
  en: {
    login: "Login", password: "Password", log_in: "Log in", log_out: "Log out", available: "Available", away: "Away",
    offline: "Offline", be_available: "Be available", be_away: "Go away", unreachable: "The hotline cannot be reached.",
    offered: "Offered", ringing: "Ringing", active: "In conversation", held: "On hold", wrap_up: "Wrapping up",
    nobody: "Nobody now.", other_language: "中文", lost: "Connection lost; coming back …",
  },
  zh: {
    login: "账号", password: "密码", log_in: "登录", log_out: "退出", available: "空闲", away: "离开",
    offline: "离线", be_available: "置为空闲", be_away: "置为离开", unreachable: "无法连接热线系统。",
    offered: "待接", ringing: "振铃", active: "服务中", held: "保持", wrap_up: "整理中",
    nobody: "当前没有会话。", other_language: "English", lost: "连接已断开，正在恢复…",
  },
};
const say = (key) => TEXTS[language()][key] ?? key;
const text = (value, longest) => (typeof value === "string" && value.length <= longest ? value : null);

// What the site may ask for: the order of the agents' protocol that it becomes, or null.
const ORDERS = {
  dial: ({ number }) => text(number, 40) && { type: "dial", number },
  presence: ({ to, reason }) => ["available", "away"].includes(to)
    && { type: "presence", to, reason: text(reason ?? "", 80) ?? "" },
};

class HotlinePop extends LitElement {
  static properties = { _presence: { state: true }, _error: { state: true }, _lost: { state: true } };

  constructor() {
    super();
    this._works = new Map();
    this._origins = [];
    this._asked = new Map();
    this._presence = null;
    this.session = new Session("/api/agent", {
      greeting: () => ({ v: VERSION, type: "login", stream: "", after: 0 }), ping: { v: VERSION, type: "ping" } });
    this.session.addEventListener("message", (event) => this._hear(event.detail));
    this.session.addEventListener("lost", () => { this._lost = true; this._answerAll(); });
    this.session.addEventListener("out", () => this._signedOut());
    this._begin();
  }

  createRenderRoot() { return this; }

  async _begin() {
    const answer = await fetch("/api/embed").then((one) => one.json()).catch(() => ({ origins: [] }));
    this._origins = answer.origins;
    addEventListener("message", (event) => this._asks(event));
    this._tell("ready");
    this.session.start();
  }

  // --- the page around ---------------------------------------------------------------------------

  // To each site by name: the browser gives it to none but the one that is there.
  _tell(type, about = {}) {
    if (parent === window) return;
    for (const origin of this._origins) parent.postMessage({ hotline: VERSION, type, ...about }, origin);
  }

  _asks({ source, origin, data }) {
    if (source !== parent || !this._origins.includes(origin) || data?.hotline !== VERSION) return;
    const id = text(data.id, 64) ?? "";
    if (data.type === "hello") {
      this._tell("ready");
      this._tellState();
      for (const card of this._works.values()) this._pop(card);
      return;
    }
    const order = Object.hasOwn(ORDERS, data.type) ? ORDERS[data.type](data) : null;
    const number = crypto.randomUUID();
    if (!order || !this.session.send({ v: VERSION, ...order, id: number })) {
      this._tell("outcome", { id, result: "refused", text: order ? "not logged in" : "unknown request" });
      return;
    }
    this._asked.set(number, id);
  }

  _answerAll() {
    for (const id of this._asked.values()) this._tell("outcome", { id, result: "unknown", text: "connection lost" });
    this._asked.clear();
  }

  _tellState() {
    const { state = "offline", reason = "" } = this._presence ?? {};
    this._tell("state", { presence: state, reason });
  }

  _pop(card) {
    const facts = Object.fromEntries(card.facts.map((fact) => [fact.name, fact.value]));
    this._tell("pop", {
      conversation: card.conversation, kind: card.kind, channel: card.channel, stage: card.stage,
      number: card.number, name: card.name, verified: card.verified, language: card.language, topic: card.topic,
      contact: card.contact?.id ?? null, facts,
    });
  }

  // --- the hotline -------------------------------------------------------------------------------

  _hear(news) {
    this._lost = false;
    switch (news.type) {
      case "hello":
        this._works = new Map(news.cards.map((card) => [card.conversation, card]));
        this._presence = news.presence;
        this._tellState();
        news.cards.forEach((card) => this._pop(card));
        break;
      case "presence":
        this._presence = news;
        this._tellState();
        break;
      case "pop": {
        const { card } = news;
        const fresh = !this._works.has(card.conversation);
        this._works.set(card.conversation, card);
        if (fresh) {
          this._pop(card);
          this.updateComplete.then(() => this.session.send({ v: VERSION, type: "seen", conversation: card.conversation }));
        }
        break;
      }
      case "answered":
        this._tell("answered", { conversation: news.conversation, at: news.at });
        break;
      case "ended":
        this._tell("ended", { conversation: news.conversation, outcome: news.outcome, talked: news.talked });
        if (!["wrap_up", "active", "held"].includes(this._works.get(news.conversation)?.stage)) {
          this._works.delete(news.conversation);
        }
        break;
      case "wrapped":
        this._works.delete(news.conversation);
        break;
      case "outcome":
        if (this._asked.has(news.id)) {
          this._tell("outcome", { id: this._asked.get(news.id), result: news.result, text: news.text });
          this._asked.delete(news.id);
        }
        break;
      case "error":
        // A refusal names no order: it is of the oldest that was asked for.
        if (this._asked.size) {
          const [number, id] = this._asked.entries().next().value;
          this._asked.delete(number);
          this._tell("outcome", { id, result: "refused", text: news.text });
        } else this._error = news.text;
        break;
    }
    this.requestUpdate();
  }

  _signedOut() {
    this._works.clear();
    this._presence = null;
    this._answerAll();
    this._tellState();
    this.requestUpdate();
  }

  // --- what it looks like ------------------------------------------------------------------------

  render() {
    if (!this.session.token) return this._login();
    const state = this._presence?.state ?? "offline";
    const to = state === "available" ? "away" : "available";
    return html`<header class="row"><b role="status">${this._lost ? say("lost") : say(state)}</b><span class="grow"></span>
        <button type="button" @click=${() => this.session.send({ v: VERSION, type: "presence", to })}>${say(`be_${to}`)}</button>
        <button type="button" class="plain" @click=${async () => { await this.session.logOut(); this._signedOut(); }}>
          ${say("log_out")}</button></header>
      <p class="error" role="alert">${this._error}</p>
      <div class="works">${this._works.size ? repeat([...this._works.values()], (card) => card.conversation, (card) => html`
        <article class=${`card ${card.stage}`}><h2><bdi>${card.name || card.number}</bdi></h2>
          <p class="quiet">${say(card.stage)} · <bdi>${card.number}</bdi> · <bdi>${card.topic}</bdi></p>
          <dl>${card.facts.slice(0, 6).map((fact) => html`<dt><bdi>${fact.name}</bdi></dt><dd><bdi>${fact.value}</bdi></dd>`)}</dl>
        </article>`) : html`<p class="quiet">${say("nobody")}</p>`}</div>`;
  }

  _login() {
    const other = language() === "en" ? "zh" : "en";
    return html`<main class="login"><form class="card" @submit=${this._submit}>
      <label><span>${say("login")}</span><input name="login" autocomplete="username" autocapitalize="none" required maxlength="255"></label>
      <label><span>${say("password")}</span><input name="password" type="password" autocomplete="current-password" required maxlength="1024"></label>
      <button type="submit" class="primary">${say("log_in")}</button>
      <p class="error" role="alert">${this._error}</p>
      <button type="button" class="plain language" lang=${other === "zh" ? "zh-CN" : "en"}
        @click=${() => { setLanguage(other); this.requestUpdate(); }}>${say("other_language")}</button></form></main>`;
  }

  async _submit(event) {
    event.preventDefault();
    const { login, password } = event.target.elements;
    this._error = "";
    try {
      await this.session.logIn(login.value.trim(), password.value);
      password.value = "";
    } catch (error) {
      this._error = error instanceof Refused ? error.message : say("unreachable");
    }
    this.requestUpdate();
  }
}

customElements.define("hotline-pop", HotlinePop);
