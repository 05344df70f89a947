// Logging in and staying connected, for every page of ours that has a socket. The token lives as
// long as the tab; a connection that is lost or falls silent is made again until the server says
// that the login is over.

const LOGIN_REFUSED = 4001;
const PING_EVERY = 14_000;
const SILENCE = 25_000;
const LONGEST_WAIT = 10_000;

export function stored(storage, key, value) {
  try {
    if (value === undefined) return storage.getItem(key);
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch { /* a browser that keeps nothing: the page works until it is closed */ }
  return value;
}

// What the server refused, in its words; without words it could not be reached.
export class Refused extends Error {}

// Tells its listeners `message` (detail: what the server said), `opened`, `lost`, and `out` (detail:
// the close code) when the login is over. `greeting` makes the first frame, without the token;
// `ping` is asked in silence, and without it silence is nothing to worry about.
export class Session extends EventTarget {
  constructor(path, { greeting = () => ({ type: "login" }), ping = null, final = [] } = {}) {
    super();
    this.token = stored(sessionStorage, "token") || "";
    this._path = path;
    this._greeting = greeting;
    this._ping = ping;
    this._final = [LOGIN_REFUSED, ...final];
    this._socket = null;
    this._attempts = 0;
    this._heardAt = 0;
    this._again = 0;
    setInterval(() => this._watch(), 5000);
    addEventListener("online", () => this._hurry());
  }

  get open() { return this._socket?.readyState === WebSocket.OPEN; }

  start() { if (this.token && !this._socket) this._connect(); }

  send(message) {
    if (!this.open) return false;
    this._socket.send(JSON.stringify(message));
    return true;
  }

  // The JSON that a path answers with. Raises Refused, or TypeError when nobody answers.
  async ask(path, options = {}) {
    const headers = { ...options.headers, Authorization: `Bearer ${this.token}` };
    const answer = await fetch(path, { ...options, headers });
    return this._read(answer);
  }

  // A file that wants the login too.
  async file(path) {
    const answer = await fetch(path, { headers: { Authorization: `Bearer ${this.token}` } });
    if (!answer.ok) await this._read(answer);
    return answer.blob();
  }

  async logIn(login, password) {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ login, password }),
    });
    this.token = stored(sessionStorage, "token", (await this._read(answer)).token);
    this._connect();
  }

  async logOut() {
    const headers = { Authorization: `Bearer ${this.token}` };
    const leaving = this._socket;
    this._forget();
    await fetch("/api/logout", { method: "POST", headers }).catch(() => {});
    leaving?.close();
  }

  async _read(answer) {
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return body;
    if (answer.status === 401 && this.token) this._out(LOGIN_REFUSED);
    throw Object.assign(new Refused(body.text ?? `${answer.status}`), { status: answer.status });
  }

  _connect() {
    clearTimeout(this._again);
    const secure = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(`${secure}//${location.host}${this._path}`);
    this._socket = mine;
    this._heardAt = Date.now();
    mine.onopen = () => mine.send(JSON.stringify({ ...this._greeting(), token: this.token }));
    mine.onmessage = (event) => {
      if (mine !== this._socket) return;
      this._heardAt = Date.now();
      this._attempts = 0;
      this._tell("message", JSON.parse(event.data));
    };
    mine.onclose = (event) => {
      if (mine !== this._socket) return;
      this._socket = null;
      if (this._final.includes(event.code)) { this._out(event.code); return; }
      this._tell("lost");
      const wait = Math.min(LONGEST_WAIT, 500 * 2 ** Math.min(this._attempts++, 5));
      this._again = setTimeout(() => this._hurry(), wait * (0.75 + Math.random() / 2));
    };
  }

  _hurry() { if (this.token && !this._socket) this._connect(); }

  _watch() {
    if (!this._ping || !this._socket) return;
    const quiet = Date.now() - this._heardAt;
    if (quiet > SILENCE) {
      const silent = this._socket;
      silent.onclose?.({ code: 1006 });
      silent.close();
    } else if (quiet > PING_EVERY) this.send(this._ping);
  }

  _out(code) {
    this._forget();
    this._tell("out", code);
  }

  _forget() {
    clearTimeout(this._again);
    this._socket = null;
    this._attempts = 0;
    this.token = stored(sessionStorage, "token", null) || "";
  }

  _tell(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }
}
