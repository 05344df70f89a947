// The supervisors' board: who waits, who serves, how it goes, and what can be done about it. The
// server tells everything once and then only what has changed; ages are counted here.

import { Refused, Session } from "./session.js";
import { language, minutes, setLanguage } from "./language.js";
import { LitElement, classMap, html, nothing, repeat } from "./vendor/lit.js";
import { TEXTS } from "./wallboard-texts.js";

const say = (key, ...values) => values.reduce(
  (filled, value, place) => filled.replaceAll(`{${place}}`, () => value), TEXTS[language()][key] ?? key);
const worded = (name) => (name in TEXTS[language()] ? say(name) : name.replace(/[._]/g, " "));

const STATES = ["busy", "available", "away", "offline"];
const MOST_AGENTS = 200;

function stateOf(agent) {
  const busy = agent.works.some((work) => work.stage !== "wrap_up");
  return busy ? "busy" : agent.presence;
}

const percent = (share) => (share === null || share === undefined
  ? say("unknown") : new Intl.NumberFormat(undefined, { style: "percent" }).format(share));

function growth({ hour, before }) {
  if (!before) return hour ? html`<span class="up">+${hour}</span>` : say("unknown");
  const change = (hour - before) / before;
  const shown = new Intl.NumberFormat(undefined, { style: "percent", signDisplay: "exceptZero" }).format(change);
  return html`<span class=${classMap({ up: change > 0, down: change < 0 })}>${shown}</span>`;
}

class WallBoard extends LitElement {
  static properties = {
    _board: { state: true }, _error: { state: true }, _lost: { state: true }, _asked: { state: true },
    _told: { state: true }, _busy: { state: true }, _wanted: { state: true },
  };

  constructor() {
    super();
    this._board = null;
    this._wanted = "";
    this._skew = 0;
    this.session = new Session("/api/wallboard", { ping: { type: "ping" } });
    this.session.addEventListener("message", (event) => this._heard(event.detail));
    this.session.addEventListener("lost", () => { this._lost = true; });
    this.session.addEventListener("out", () => { this._board = null; this._lost = false; });
    this.session.start();
    setInterval(() => this.requestUpdate(), 1000);
  }

  createRenderRoot() { return this; }

  _heard(message) {
    if (message.type === "error") { this._error = message.text; return; }
    if (message.type !== "board" && message.type !== "changes") return;
    this._lost = false;
    this._error = "";
    this._skew = Date.parse(message.now) - Date.now();
    if (message.type === "board") { this._board = message; return; }
    const agents = { ...this._board?.agents };
    for (const [login, agent] of Object.entries(message.agents ?? {})) {
      if (agent === null) delete agents[login]; else agents[login] = agent;
    }
    this._board = { ...this._board, ...message, agents };
  }

  _age(since) {
    return since ? minutes((Date.now() + this._skew - Date.parse(since)) / 1000) : say("unknown");
  }

  render() {
    document.title = say("title");
    return this.session.token ? this._page() : this._login();
  }

  _languageButton() {
    const other = language() === "en" ? "zh" : "en";
    return html`<button type="button" class="plain language" lang=${other === "zh" ? "zh-CN" : "en"}
      @click=${() => { setLanguage(other); this.requestUpdate(); }}>${say("other_language")}</button>`;
  }

  // --- the way in ------------------------------------------------------------------------------

  _login() {
    return html`<main class="login"><form class="card" @submit=${this._submit}>
      <img src="/agent/icon.svg" alt="" width="48" height="48">
      <h1>${say("title")}</h1>
      <label><span>${say("login")}</span><input name="login" autocomplete="username" autocapitalize="none"
        spellcheck="false" required maxlength="255"></label>
      <label><span>${say("password")}</span><input name="password" type="password"
        autocomplete="current-password" required maxlength="1024"></label>
      <button type="submit" class="primary" ?disabled=${this._busy}>${say("log_in")}</button>
      <p class="error" role="alert">${this._error}</p>
      ${this._languageButton()}</form></main>`;
  }

  async _submit(event) {
    event.preventDefault();
    const { login, password } = event.target.elements;
    this._busy = true;
    this._error = "";
    try {
      await this.session.logIn(login.value.trim(), password.value);
      password.value = "";
    } catch (error) {
      this._error = error instanceof Refused ? error.message : say("unreachable");
    } finally { this._busy = false; }
  }

  // --- the board -------------------------------------------------------------------------------

  _page() {
    const board = this._board;
    return html`<header class="bar"><h1>${say("title")}</h1><span class="grow"></span>
        ${this._languageButton()}
        <button type="button" class="plain" @click=${async () => { await this.session.logOut(); this.requestUpdate(); }}>
          ${say("log_out")}</button></header>
      ${this._lost ? html`<p class="notice" role="status">${say("lost")}</p>` : nothing}
      <p class="told" role="status">${this._told}</p>
      ${board ? html`<main class="board">${this._figures(board)}
        ${this._queues(board)}${this._line(board)}${this._now(board)}${this._agents(board)}</main>` : nothing}
      ${this._dialog()}`;
  }

  _figures({ line, service, agents }) {
    const states = Object.values(agents).map(stateOf);
    const count = (state) => states.filter((one) => one === state).length;
    const figure = (name, value, hint = "", tone = "") => html`<div class=${`figure ${tone}`}>
      <dt>${say(name)}</dt><dd><strong>${value}</strong><small>${hint}</small></dd></div>`;
    const asked = service.answered + service.abandoned;
    return html`<dl class="figures">
      ${figure("waiting", line.waiting, "", line.waiting ? "ring" : "")}
      ${figure("longest", line.oldest ? this._age(line.oldest) : say("unknown"))}
      ${figure("level", percent(service.level), asked
        ? say("level_hint", service.in_time, asked, service.within_seconds) : say("last_hour"))}
      ${figure("abandonment", percent(service.abandonment),
        say("abandonment_hint", service.abandoned, service.turned_away))}
      ${figure("available", count("available"), "", "talk")}
      ${figure("talking", count("busy"))}
      ${figure("away", count("away"))}</dl>`;
  }

  _queues({ queues }) {
    return html`<section class="card queues" aria-labelledby="queues"><h2 id="queues">${say("queues")}</h2>
      ${queues.length ? html`<table><thead><tr><th scope="col">${say("queue")}</th>
        <th scope="col" class="number">${say("waiting")}</th><th scope="col" class="number">${say("longest")}</th>
        <th scope="col" class="number">${say("estimated")}</th><th scope="col" class="number">${say("staff")}</th></tr></thead>
        <tbody>${queues.map((queue) => html`<tr><th scope="row">${this._queueName(queue)}
          <small>${say(queue.kind)} · ${queue.language || say("any_language")}</small></th>
          <td class="number">${queue.waiting}</td><td class="number">${this._age(queue.oldest)}</td>
          <td class="number">${queue.estimated < 0 ? say("unknown") : minutes(queue.estimated)}</td>
          <td class="number">${queue.staff}</td></tr>`)}</tbody></table>`
        : html`<p class="quiet">${say("nobody_waits")}</p>`}</section>`;
  }

  _queueName({ skills }) { return html`<bdi>${skills.length ? skills.join(", ") : say("any")}</bdi>`; }

  _line({ waiting }) {
    if (!waiting.length) return nothing;
    return html`<section class="card line" aria-labelledby="line"><h2 id="line">${say("line")}</h2>
      <ol>${repeat(waiting, (one) => one.conversation, (one) => html`<li>
        <span class="who"><b>${say(one.kind)}</b> ${this._queueName(one)}
          ${one.reserved ? html`<small>→ <bdi>${one.reserved}</bdi></small>` : nothing}</span>
        <span class="number">${this._age(one.since)}</span>
        ${this._button("reassign", { conversation: one.conversation })}
        ${this._button("take", { conversation: one.conversation })}</li>`)}</ol></section>`;
  }

  _now({ channels, topics }) {
    const table = (title, rows) => html`<div>${rows.length ? html`<table><thead><tr>
      <th scope="col">${say(title)}</th><th scope="col" class="number">${say("count")}</th>
      <th scope="col" class="number">${say("hour")}</th><th scope="col" class="number">${say("growth")}</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr><th scope="row"><bdi>${row.name ? worded(row.name) : say("no_topic")}</bdi></th>
        <td class="number">${row.now}</td><td class="number">${row.hour}</td>
        <td class="number">${growth(row)}</td></tr>`)}</tbody></table>` : html`<p class="quiet">${say("nothing")}</p>`}</div>`;
    return html`<section class="card now" aria-labelledby="now"><h2 id="now">${say("now")}</h2>
      <div class="pair">${table("by_channel", channels)}${table("by_topic", topics)}</div></section>`;
  }

  _agents({ agents }) {
    const wanted = this._wanted.toLowerCase();
    const all = Object.entries(agents).map(([login, agent]) => ({ login, ...agent, state: stateOf(agent) }))
      .filter((one) => `${one.login} ${one.name} ${one.skills.join(" ")}`.toLowerCase().includes(wanted))
      .sort((one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state)
        || one.name.localeCompare(other.name) || (one.login < other.login ? -1 : 1));
    return html`<section class="card agents" aria-labelledby="agents"><div class="row"><h2 id="agents">${say("agents")}</h2>
      <span class="grow"></span><input type="search" aria-label=${say("filter")} placeholder=${say("filter")}
        .value=${this._wanted} @input=${(event) => { this._wanted = event.target.value; }}></div>
      ${all.length ? html`<ul>${repeat(all.slice(0, MOST_AGENTS), (one) => one.login, (one) => this._agent(one))}</ul>
        ${all.length > MOST_AGENTS ? html`<p class="quiet">… ${all.length - MOST_AGENTS}</p>` : nothing}`
        : html`<p class="quiet">${say("nobody_works")}</p>`}</section>`;
  }

  _agent(agent) {
    return html`<li class=${agent.state} data-login=${agent.login}>
      <div class="head"><span class="dot" aria-hidden="true"></span><b><bdi>${agent.name}</bdi></b>
        <span class="quiet">${say(`state_${agent.state}`)}${agent.reason && agent.presence === "away"
          ? html` · <bdi>${agent.reason}</bdi>` : nothing}</span>
        <span class="number">${this._age(agent.since)}</span>
        <span class="grow"></span>
        ${agent.presence === "available" ? this._button("send_away", agent) : nothing}
        ${this._button("force_out", agent)}</div>
      ${agent.works.length ? html`<ol>${agent.works.map((work) => html`<li>
        <span class="who"><b>${say(work.kind)}</b> ${say(`stage_${work.stage}`)}</span>
        <span class="number">${this._age(work.since)}</span>
        ${["active", "held"].includes(work.stage) ? html`
          ${work.kind === "call" ? ["listen", "whisper", "barge"].map((mode) => this._button(mode, work)) : nothing}
          ${this._button("reassign", work)}${this._button("take", work)}` : nothing}</li>`)}</ol>` : nothing}</li>`;
  }

  // --- what can be done ------------------------------------------------------------------------

  _button(act, about) {
    return html`<button type="button" class="small" data-act=${act} @click=${(event) => {
      this._asked = { act, about, from: event.currentTarget };
      this.updateComplete.then(() => this.querySelector("dialog").showModal());
    }}>${say(act)}</button>`;
  }

  _dialog() {
    if (!this._asked) return nothing;
    const { act, about } = this._asked;
    const agents = Object.entries(this._board?.agents ?? {});
    const queues = [...new Set(agents.flatMap(([, agent]) => agent.skills))].sort();
    return html`<dialog aria-labelledby="ask" @close=${this._forget}><form @submit=${this._act}>
      <h2 id="ask">${say(act)}</h2><p>${say(`ask_${act}`, about.name ?? "")}</p>
      ${act === "send_away" ? html`<label><span>${say("reason")}</span><input name="reason" maxlength="80"></label>` : nothing}
      ${act === "reassign" ? html`<label><span>${say("to")}</span><select name="to" required>
        <optgroup label=${say("to_agent")}>${agents.map(([login, agent]) => html`<option value=${`agent ${login}`}>${agent.name}</option>`)}</optgroup>
        <optgroup label=${say("to_queue")}>${queues.map((skill) => html`<option value=${`queue ${skill}`}>${skill}</option>`)}</optgroup>
        </select></label>` : nothing}
      <div class="row"><span class="grow"></span>
        <button type="button" @click=${() => this.querySelector("dialog").close()}>${say("cancel")}</button>
        <button type="submit" class=${act === "force_out" ? "danger" : "primary"} ?disabled=${this._busy}>${say("do_it")}</button></div>
      </form></dialog>`;
  }

  _forget() {
    const from = this._asked?.from;
    this._asked = null;
    from?.focus();
  }

  async _act(event) {
    event.preventDefault();
    const { act, about } = this._asked;
    const form = new FormData(event.target);
    const conversation = about.conversation && `/api/conversations/${encodeURIComponent(about.conversation)}`;
    const agent = about.login && `/api/agents/${encodeURIComponent(about.login)}`;
    const [kind, value] = (form.get("to") ?? " ").split(/ (.*)/s);
    const [path, body] = {
      force_out: [`${agent}/logout`, undefined],
      send_away: [`${agent}/away`, { reason: form.get("reason") ?? "" }],
      reassign: [`${conversation}/reassign`, { kind, value }],
      take: [`${conversation}/take`, undefined],
    }[act] ?? [`${conversation}/monitor`, { mode: act }];
    this._busy = true;
    try {
      const answer = await this.session.ask(path, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
      this._told = say(answer.result === "unknown" ? "unknown_outcome" : "done");
    } catch (error) {
      this._told = error instanceof Refused ? error.message : say("unreachable");
    } finally {
      this._busy = false;
      this.querySelector("dialog")?.close();
    }
  }
}

customElements.define("wall-board", WallBoard);
