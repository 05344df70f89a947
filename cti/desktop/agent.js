// The agent's page. It holds no truth of its own: the server says what is, over one WebSocket, and
// `draw` shows it. Everything from callers reaches the page through textContent alone.

const VERSION = 1;
const LOGIN_REFUSED = 4001;
const PING_EVERY = 15_000;
const SILENCE = 25_000;
const LAST_MOMENT = 2_000;

const TEXTS = {
  en: {
    other_language: "中文",
    title: "Hotline", login: "Login", password: "Password", log_in: "Log in", logout: "Log out",
    available: "Available", away: "Away", presence: "Your presence", extension: "Phone {0}",
    queue_empty: "Nobody is waiting", queue: "{0} waiting, longest {1}",
    idle_available: "Ready", idle_available_text: "The next caller comes to you. Your phone will ring after you have seen who it is.",
    idle_away: "You are away", idle_away_text: "No calls come to you until you are available.",
    missed: "You did not answer. The caller is waiting for somebody else.",
    busy: "Your phone was busy. The caller is waiting for somebody else.",
    unavailable: "Your phone could not be reached. Is it switched on and registered?",
    declined: "You declined a call.", "screen lost": "This page was away for a while.",
    come_back: "I am available",
    offered: "A call for you", ringing: "Your phone is ringing", talking: "Connected", wrap_state: "Call ended, wrap-up",
    decline: "Decline", hang_up: "Hang up",
    unknown_caller: "Unknown caller", withheld: "Number withheld", claimed: "as the caller ID says",
    waited: "Waited {0}", dialled: "Dialled {0}",
    path: "Way through the menu", known: "Also known", transcript: "What was said", earlier: "Earlier conversations",
    no_earlier: "None with this customer.", caller: "Caller", hotline: "Hotline", with_agent: "with {0}",
    wrap_up: "For the record", disposition: "How did it come out?", note: "Note", done: "Done", kept: "Saved",
    resolved: "Resolved", follow_up: "Follow up", transferred: "Transferred", wrong_number: "Wrong number",
    no_customer: "Nobody there", other: "Something else",
    gone: "The caller hung up.", failed: "The telephone system could not put the call through.",
    reconnecting: "The connection is lost. Trying again…", unreachable: "The hotline cannot be reached.",
  },
  zh: {
    other_language: "English",
    title: "热线", login: "账号", password: "密码", log_in: "登录", logout: "退出",
    available: "空闲", away: "离开", presence: "您的状态", extension: "分机 {0}",
    queue_empty: "无人排队", queue: "{0} 人排队，最长 {1}",
    idle_available: "准备就绪", idle_available_text: "下一位来电将转给您。您会先看到来电信息，然后电话振铃。",
    idle_away: "您已离开", idle_away_text: "切换到空闲之前，不会有来电转给您。",
    missed: "您未接听，来电正在等待其他坐席。",
    busy: "您的电话占线，来电正在等待其他坐席。",
    unavailable: "无法接通您的电话，请检查话机是否已开机并注册。",
    declined: "您拒接了一个来电。", "screen lost": "本页面曾断开一段时间。",
    come_back: "我有空了",
    offered: "有您的来电", ringing: "您的电话正在振铃", talking: "通话中", wrap_state: "通话结束，整理中",
    decline: "拒接", hang_up: "挂断",
    unknown_caller: "未知来电", withheld: "号码未显示", claimed: "来电显示，未经核实",
    waited: "已等待 {0}", dialled: "拨打 {0}",
    path: "菜单路径", known: "其他信息", transcript: "对话记录", earlier: "历史来电",
    no_earlier: "该客户没有历史来电。", caller: "客户", hotline: "热线", with_agent: "坐席 {0}",
    wrap_up: "通话小结", disposition: "处理结果", note: "备注", done: "完成", kept: "已保存",
    resolved: "已解决", follow_up: "需跟进", transferred: "已转接", wrong_number: "打错电话",
    no_customer: "无人应答", other: "其他",
    gone: "客户已挂断。", failed: "电话系统未能接通。",
    reconnecting: "连接已断开，正在重试…", unreachable: "无法连接热线。",
  },
};

const $ = (id) => document.getElementById(id);
const stored = (storage, key, value) => {
  try {
    if (value === undefined) return storage.getItem(key);
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch { /* a browser that keeps nothing: the page works until it is closed */ }
  return value;
};

let language = stored(localStorage, "language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
let token = stored(sessionStorage, "token");
let socket = null;
let attempts = 0;
let heardAt = 0;
let noticeTimer = 0;
const state = fresh();

function fresh() {
  return {
    agent: null, presence: null, queue: { waiting: 0, longest: 0 }, queueAt: 0,
    card: null, ringing: false, ringUntil: 0, skew: 0, dispositions: [], dirty: false,
  };
}

function say(key, ...values) {
  const text = TEXTS[language][key] ?? key;
  return values.reduce((filled, value, place) => filled.replace(`{${place}}`, () => value), text);
}

// --- the connection ------------------------------------------------------------------------------

const received = {
  hello(message) {
    attempts = 0;
    notice("");
    state.skew = Date.parse(message.now) - Date.now();
    state.agent = message.agent;
    state.dispositions = message.dispositions;
    state.card = message.cards[0] ?? null;
    state.ringing = false;
    state.ringUntil = 0;
    received.presence(message.presence);
    received.queue(message.queue);
    makeDispositions();
    restoreDraft();
  },
  presence(message) { state.presence = message; },
  queue(message) { state.queue = message; state.queueAt = Date.now(); },
  pop(message) {
    const isNew = state.card?.conversation !== message.card.conversation;
    state.card = message.card;
    if (!isNew) return;
    Object.assign(state, { ringing: false, ringUntil: 0 });
    restoreDraft();
    notice("");
    scrollTo(0, 0);
  },
  ringing(message) {
    state.ringing = true;
    state.ringUntil = Date.now() + message.seconds * 1000;
  },
  answered() {},
  resumed() {},
  message() {},
  typing() {},
  read() {},
  outcome(message) { if (message.result !== "done") notice(message.text, 8000); },
  ended(message) {
    if (["talked", "transferred", "returned"].includes(message.outcome)) return;
    state.card = null;
    if (message.outcome === "gone" || message.outcome === "failed") notice(say(message.outcome), 8000);
  },
  noted() { $("kept").textContent = state.dirty ? "" : say("kept"); },
  wrapped(message) {
    if (state.card?.conversation !== message.conversation) return;
    stored(sessionStorage, `draft ${message.conversation}`, null);
    state.card = null;
  },
  pong() {},
  error(message) {
    if (message.code !== "login") notice(message.text, 8000);
  },
};

function connect() {
  const secure = location.protocol === "https:" ? "wss:" : "ws:";
  const mine = new WebSocket(`${secure}//${location.host}/api/agent`);
  socket = mine;
  heardAt = Date.now();
  mine.onopen = () => mine.send(JSON.stringify({ v: VERSION, type: "login", token }));
  mine.onmessage = (event) => {
    if (mine !== socket) return;
    heardAt = Date.now();
    const message = JSON.parse(event.data);
    received[message.type]?.(message);
    draw();
    if (message.type === "pop") send("seen", { conversation: message.card.conversation });
  };
  mine.onclose = (event) => {
    if (mine !== socket) return;
    socket = null;
    if (event.code === LOGIN_REFUSED) { forget(); return; }
    if (!token) return;
    notice(say("reconnecting"));
    const wait = Math.min(10_000, 500 * 2 ** Math.min(attempts++, 5));
    setTimeout(() => { if (token && !socket) connect(); }, wait * (0.75 + Math.random() / 2));
  };
}

function send(type, values = {}) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ v: VERSION, type, ...values }));
}

function watch() {
  if (!socket) return;
  if (Date.now() - heardAt > SILENCE) {
    const silent = socket;
    silent.onclose?.({ code: 1006 });
    silent.close();
  } else if (Date.now() - heardAt > PING_EVERY - 1000) send("ping");
}

async function logIn(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  $("login-error").textContent = "";
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ login: form.elements.login.value.trim(), password: form.elements.password.value }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.text);
    token = stored(sessionStorage, "token", body.token);
    form.reset();
    draw();
    connect();
  } catch (error) {
    $("login-error").textContent = error instanceof TypeError ? say("unreachable") : error.message;
    form.elements.password.focus();
  } finally {
    button.disabled = false;
  }
}

async function logOut() {
  const headers = { Authorization: `Bearer ${token}` };
  const leaving = socket;
  socket = null;
  forget();
  await fetch("/api/logout", { method: "POST", headers }).catch(() => {});
  leaving?.close();
}

function forget() {
  token = stored(sessionStorage, "token", null) || "";
  Object.assign(state, fresh());
  notice("");
  draw();
}

// --- what the agent does -------------------------------------------------------------------------

function keepNote() {
  if (!state.card || !state.dirty || socket?.readyState !== WebSocket.OPEN) return;
  const disposition = document.querySelector("[name=disposition]:checked")?.value ?? "";
  send("note", { conversation: state.card.conversation, text: $("note").value, disposition });
  state.dirty = false;
}

function setPresence(to) {
  keepNote();
  send("presence", { to });
}

function drafted() {
  if (!state.card) return;
  state.dirty = true;
  $("kept").textContent = "";
  const disposition = document.querySelector("[name=disposition]:checked")?.value ?? "";
  const draft = JSON.stringify({ text: $("note").value, disposition });
  stored(sessionStorage, `draft ${state.card.conversation}`, draft);
}

function restoreDraft() {
  const kept = state.card && stored(sessionStorage, `draft ${state.card.conversation}`);
  const draft = kept ? JSON.parse(kept) : { text: "", disposition: "" };
  $("note").value = draft.text;
  for (const choice of document.querySelectorAll("[name=disposition]"))
    choice.checked = choice.value === draft.disposition;
  state.dirty = Boolean(kept);
  $("kept").textContent = "";
}

// --- drawing -------------------------------------------------------------------------------------

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

// Names from flows, as words.
const plain = (name) => name.replace(/[._]/g, " ");

function minutes(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  return whole < 3600
    ? `${Math.floor(whole / 60)}:${rest}`
    : `${Math.floor(whole / 3600)}:${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}:${rest}`;
}

const LOCALES = { en: undefined, zh: "zh-CN" };
const when = (at, form) => new Intl.DateTimeFormat(LOCALES[language], form).format(new Date(at));

function languageName(code) {
  try {
    return new Intl.DisplayNames([LOCALES[language] ?? "en"], { type: "language" }).of(code);
  } catch { return code; }
}

function notice(text, forHowLong = 0) {
  clearTimeout(noticeTimer);
  $("notice").textContent = text;
  $("notice").hidden = !text;
  if (forHowLong) noticeTimer = setTimeout(() => notice(""), forHowLong);
}

function draw() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll(".language")) element.textContent = say("other_language");
  $("presence").setAttribute("aria-label", say("presence"));
  const here = Boolean(token && state.agent);
  $("login").hidden = Boolean(token);
  $("bar").hidden = $("desk").hidden = !here;
  if (here) {
    drawBar();
    drawIdle();
    drawCall();
  }
  drawTime();
}

function drawBar() {
  $("my-name").textContent = state.agent.name || state.agent.login;
  $("my-phone").textContent = say("extension", state.agent.extension);
  for (const button of $("presence").children) {
    button.setAttribute("aria-pressed", String(button.dataset.to === state.presence.state));
  }
}

function drawIdle() {
  const ready = state.presence.state === "available";
  const reason = state.presence.reason;
  $("idle").hidden = Boolean(state.card);
  $("idle").classList.toggle("ready", ready);
  $("idle-title").textContent = say(ready ? "idle_available" : "idle_away");
  const why = !ready && reason ? say(reason) : say(ready ? "idle_available_text" : "idle_away_text");
  $("idle-text").textContent = why;
  $("come-back").hidden = ready;
}

function phase() {
  const stage = state.card.stage;
  return stage === "active" || stage === "held" ? "talking" : stage;
}

function drawCall() {
  const card = state.card;
  $("call").hidden = !card;
  if (!card) return;
  const now = phase();
  $("state").className = `state ${now === "ringing" ? "offered" : now}`;
  $("state-text").textContent = say(now === "wrap_up" ? "wrap_state" : now);
  $("decline").hidden = now !== "offered" && now !== "ringing";
  $("hang-up").hidden = now !== "talking";
  $("wrap").hidden = now !== "talking" && now !== "wrap_up";
  $("done").hidden = now !== "wrap_up";

  $("topic").textContent = card.topic;
  $("who").textContent = card.name || card.number || say("unknown_caller");
  const claimed = make("small", say("claimed"));
  $("number").replaceChildren(card.number ? (card.name ? card.number : "") : say("withheld"), card.number ? claimed : "");
  const chips = [say("waited", minutes(card.waited))];
  if (card.language) chips.push(languageName(card.language));
  if (card.dialled) chips.push(say("dialled", card.dialled));
  $("chips").replaceChildren(...chips.map((text) => make("span", text)));

  drawFacts($("first"), card.facts.filter((fact) => fact.first));
  drawFacts($("rest"), card.facts.filter((fact) => !fact.first));
  $("path").replaceChildren(...card.path.map((step) => make("li", step)));
  $("path-card").hidden = !card.path.length;
  $("transcript").replaceChildren(...card.transcript.map((line) => {
    const item = make("li", undefined, line.who === "caller" ? "caller-said" : "");
    const time = when(line.at, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    item.append(make("small", `${say(line.who)} · ${time}`), make("p", line.text));
    return item;
  }));
  $("transcript-card").hidden = !card.transcript.length;
  $("earlier").replaceChildren(...card.earlier.map((past) => {
    const item = make("li");
    const head = [when(past.at, { dateStyle: "medium", timeStyle: "short" })];
    if (past.agent) head.push(say("with_agent", past.agent));
    const title = [past.topic, past.outcome].filter(Boolean).map(plain).join(" · ");
    item.append(make("strong", title), make("small", head.join(" · ")));
    if (past.note) item.append(make("p", past.note));
    return item;
  }));
  $("no-earlier").hidden = card.earlier.length > 0;
}

function drawFacts(list, facts) {
  list.replaceChildren(...facts.map((fact) => {
    const row = make("div");
    row.append(make("dt", plain(fact.name)), make("dd", fact.value));
    return row;
  }));
  list.closest(".card").hidden = !facts.length;
}

function makeDispositions() {
  const chosen = document.querySelector("[name=disposition]:checked")?.value;
  $("dispositions").replaceChildren(...state.dispositions.map((name) => {
    const choice = make("label");
    const input = make("input");
    Object.assign(input, { type: "radio", name: "disposition", value: name, checked: name === chosen });
    const text = make("span", say(name));
    text.dataset.text = name;
    choice.append(input, text);
    return choice;
  }));
}

function drawTime() {
  let title = say("title");
  if (state.agent) {
    const longest = state.queue.longest + (Date.now() - state.queueAt) / 1000;
    $("queue").textContent = state.queue.waiting
      ? say("queue", String(state.queue.waiting), minutes(longest)) : say("queue_empty");
    $("queue").classList.toggle("busy", state.queue.waiting > 0);
  }
  if (state.card) {
    const now = Date.now() + state.skew;
    const shown = phase();
    const until = Date.parse(state.card.until);
    const left = { wrap_up: until - now, ringing: state.ringUntil - Date.now() }[shown];
    $("timer").textContent = shown === "talking"
      ? minutes((now - Date.parse(state.card.answered_at)) / 1000) : left > 0 ? minutes(Math.ceil(left / 1000)) : "";
    if (shown === "wrap_up" && left < LAST_MOMENT) keepNote();
    const who = state.card.name || state.card.number || say("unknown_caller");
    if (shown === "offered" || shown === "ringing") title = `☎ ${[who, state.card.topic].filter(Boolean).join(" · ")}`;
  }
  if (document.title !== title) document.title = title;
}

// --- wiring --------------------------------------------------------------------------------------

$("login-form").addEventListener("submit", logIn);
$("logout").addEventListener("click", logOut);
$("come-back").addEventListener("click", () => setPresence("available"));
$("decline").addEventListener("click", () => send("decline", { conversation: state.card?.conversation }));
$("hang-up").addEventListener("click", () => send("hang_up", { conversation: state.card?.conversation }));
$("done").addEventListener("click", () => {
  keepNote();
  send("done", { conversation: state.card?.conversation });
});
$("note").addEventListener("input", drafted);
$("note").addEventListener("change", keepNote);
$("dispositions").addEventListener("change", () => { drafted(); keepNote(); });
for (const button of $("presence").children)
  button.addEventListener("click", () => setPresence(button.dataset.to));
for (const button of document.querySelectorAll(".language")) {
  button.addEventListener("click", () => {
    language = stored(localStorage, "language", language === "en" ? "zh" : "en");
    draw();
  });
}
setInterval(drawTime, 500);
setInterval(watch, 5000);
draw();
if (token) connect();
