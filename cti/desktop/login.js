// The way in.

import { desk } from "./desk.js";
import { language, say, setLanguage } from "./language.js";
import { Part, define, html } from "./part.js";
import { Refused } from "./session.js";

export function otherLanguage(part) {
  return html`<button type="button" class="plain language" lang=${language() === "en" ? "zh-CN" : "en"}
    @click=${() => { setLanguage(language() === "en" ? "zh" : "en"); part.dispatchEvent(new Event("language"));
      desk.dispatchEvent(new Event("change")); }}>${say("other_language")}</button>`;
}

class AgentLogin extends Part {
  static properties = { _error: { state: true }, _busy: { state: true } };

  render() {
    return html`<main class="login">
      <form class="card" autocomplete="on" @submit=${this._submit}>
        <img src="/agent/icon.svg" alt="" width="48" height="48">
        <h1>${say("title")}</h1>
        <label><span>${say("login")}</span>
          <input name="login" autocomplete="username" autocapitalize="none" spellcheck="false" required
            maxlength="255"></label>
        <label><span>${say("password")}</span>
          <input name="password" type="password" autocomplete="current-password" required maxlength="1024"></label>
        <button type="submit" class="primary" ?disabled=${this._busy}>${say("log_in")}</button>
        <p class="error" role="alert">${this._error}</p>
        ${otherLanguage(this)}
      </form></main>`;
  }

  async _submit(event) {
    event.preventDefault();
    const { login, password } = event.target.elements;
    this._busy = true;
    this._error = "";
    try {
      await desk.session.logIn(login.value.trim(), password.value);
      password.value = "";
      desk.dispatchEvent(new Event("change"));
    } catch (error) {
      this._error = error instanceof Refused ? error.message : say("unreachable");
      password.focus();
    } finally {
      this._busy = false;
    }
  }
}
define("agent-login", AgentLogin);
