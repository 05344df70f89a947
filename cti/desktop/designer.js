// The designer's page. What a flow is, the server says; this page shows it, and says again when the
// file is saved. Everything from files and from the server reaches the page through textContent alone.

import { Canvas } from "./drawing.js";
import { Refused, Session, stored } from "./session.js";
import { TEXTS } from "./texts.js";

const NOT_A_DESIGNER = 4003;
const SORTS = ["asks", "says", "decides", "systems", "people", "ends", "misses"];

const $ = (id) => document.getElementById(id);
let language = stored(localStorage, "language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
const session = new Session("/api/designer", { final: [NOT_A_DESIGNER] });
let looking = 0;
const state = fresh();

function fresh() {
  return {
    files: [], file: stored(sessionStorage, "file"), flow: null, drawn: null, findings: [], chosen: "",
    tab: stored(sessionStorage, "tab") ?? "findings", counts: null, versions: null,
    simulation: null, simulated: null, stale: false, refused: "",
  };
}

function say(key, ...values) {
  const text = TEXTS[language][key] ?? key;
  return values.reduce((filled, value, place) => filled.replace(`{${place}}`, () => value), text);
}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function button(text, act, className) {
  const element = make("button", text, className);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const canvas = new Canvas($("drawing"), (name) => choose(name));

// --- the connection ------------------------------------------------------------------------------

const ask = (path) => session.ask(`/api/designer/${path}`);

const received = {
  hello() {
    notice("");
    look();
  },
  changed() { state.stale = true; look(); },
  simulation(message) {
    if (message.fresh) {
      $("script").replaceChildren();
      $("recording").hidden = true;
      state.stale = false;
      state.simulated = state.file;
    }
    state.simulation = message;
    for (const line of message.lines) tell(line.kind, line.text);
    drawSimulation();
  },
  recording(message) {
    $("recording").value = message.text;
    $("recording").hidden = false;
    $("recording").select();
  },
  error(message) {
    if (message.code === "not_allowed") { state.refused = say("not_designer"); return; }
    if (message.code !== "login") tell("wrong", message.text);
  },
};

session.addEventListener("message", ({ detail }) => {
  received[detail.type]?.(detail);
  draw();
});
session.addEventListener("lost", () => {
  notice(say("reconnecting"));
  state.simulation = null;
  draw();
});
session.addEventListener("out", ({ detail }) => {
  forget();
  if (detail === NOT_A_DESIGNER) $("login-error").textContent = state.refused;
});

const send = (message) => session.send(message);

async function logIn(event) {
  event.preventDefault();
  const form = event.target;
  const pressed = form.querySelector("[type=submit]");
  pressed.disabled = true;
  $("login-error").textContent = "";
  try {
    await session.logIn(form.elements.login.value.trim(), form.elements.password.value);
    form.reset();
    draw();
  } catch (error) {
    $("login-error").textContent = error instanceof Refused ? error.message : say("unreachable");
    form.elements.password.focus();
  } finally {
    pressed.disabled = false;
  }
}

async function logOut() {
  const left = session.logOut();
  forget();
  await left;
}

function forget() {
  Object.assign(state, fresh(), { refused: state.refused });
  canvas.clear();
  notice("");
  draw();
}

// --- the flow ------------------------------------------------------------------------------------

// Read the folder and the chosen file again.
async function look() {
  looking += 1;
  const turn = looking;
  try {
    const drawing = (file) => ask(`flows/${encodeURIComponent(file)}`);
    const wanted = state.file;
    const [{ files }, early] = await Promise.all([ask("flows"), wanted ? drawing(wanted).catch(() => null) : null]);
    if (turn !== looking) return;
    state.files = files;
    if (!files.some((one) => one.file === state.file))
      state.file = (files.find((one) => one.flow === "main") ?? files[0])?.file ?? null;
    if (!state.file) { canvas.clear(); notice(say("no_flows")); draw(); return; }
    notice("");
    const flow = early && wanted === state.file ? early : await drawing(state.file);
    if (turn !== looking) return;
    await show(flow);
  } catch (error) {
    if (session.token) notice(error instanceof TypeError ? say("unreachable") : error.message);
  }
}

async function show(flow) {
  const same = state.drawn?.file === flow.file;
  state.flow = flow;
  state.findings = [...flow.findings].sort((a, b) => (a.code[0] === b.code[0] ? a.line - b.line : a.code < b.code ? -1 : 1));
  if (flow.loads) {
    state.drawn = flow;
    await canvas.draw(flow, { all: $("all").checked, keep: same });
  } else if (!same) {
    state.drawn = null;
    canvas.clear();
  }
  if (!same) {
    state.chosen = "";
    state.counts = null;
    state.versions = null;
    $("recording").hidden = true;
  }
  mark();
  draw();
  if (state.tab === "versions") loadVersions();
}

function open(file) {
  state.file = stored(sessionStorage, "file", file);
  look();
}

function choose(name, near = false) {
  state.chosen = name;
  if (name && state.tab !== "simulator" && state.tab !== "findings") state.tab = "node";
  canvas.choose(name);
  if (name && near) canvas.show(name, true);
  draw();
}

// Everything that the drawing shows besides the flow itself.
function mark() {
  canvas.flag(state.findings);
  canvas.choose(state.chosen);
  canvas.traffic(state.counts);
  const now = state.simulation;
  const mine = now && state.simulated === state.file;
  const own = (list) => list.filter(([flow]) => flow === state.drawn?.flow).map(([, ...rest]) => rest.join(" "));
  canvas.walk(mine && now.flow === state.drawn?.flow ? now.node : "", mine ? own(now.passed) : [], mine ? own(now.taken) : []);
}

// --- the simulator -------------------------------------------------------------------------------

function begin(event) {
  event.preventDefault();
  send({
    type: "start", file: state.file, channel: $("channel").value, language: $("speaks").value,
    at: new Date().toISOString(),
  });
}

function act(line, shown) {
  if (shown) tell("you", shown);
  send({ type: "line", text: line });
}

function tell(kind, text) {
  const item = make("li", text, kind);
  $("script").append(item);
  while ($("script").children.length > 500) $("script").firstChild.remove();
  $("script").scrollTop = $("script").scrollHeight;
}

// What the page offers while the flow waits: [text, line] of buttons, the label of the field, and
// what the words in it become.
const spoken = (text) => text;
const WAITING = {
  answer: () => {
    const wants = state.simulation.expected;
    const ways = wants?.choices.map((choice) => [choice.label, wants.keys && choice.key ? `/press ${choice.key}` : choice.label, choice.key]) ?? [];
    return { ways: [...ways, [say("silence"), "/silent"], [say("hang_up"), "/hangup"]], words: wants?.keys && !wants.listen.includes("speech") ? (text) => `/press ${text}` : spoken };
  },
  fetch: () => ({
    ways: [[say("not_found"), "/fetch 404"], [say("no_answer_fetch"), "/fetch fail"]],
    words: (text) => `/fetch ${text}`, label: say("answer"), first: "{}",
  }),
  queue: () => ({ ways: [[say("joins"), "/agent"], [say("nobody"), "/nobody"], [say("wait"), "/wait 60s"], [say("hang_up"), "/hangup"]], words: spoken }),
  person: () => ({ ways: [[say("leaves"), "/agent"], [say("hang_up"), "/hangup"]] }),
  invite: () => ({ ways: [[say("turns_up"), "/join"], [say("undelivered"), "/undelivered"], [say("silence"), "/silent"], [say("hang_up"), "/hangup"]] }),
  transfer: () => ({ ways: [[say("answered"), "/transfer answered"], [say("busy"), "/transfer busy"], [say("no_answer"), "/transfer no_answer"]] }),
  record: () => ({ ways: [[say("silence"), "/silent"], [say("hang_up"), "/hangup"]], words: spoken, label: say("message") }),
};

function drawSimulation() {
  const now = state.simulation;
  mark();
  if (now && state.simulated === state.file && now.flow === state.drawn?.flow) canvas.show(now.node);
  $("record").hidden = !now;
  $("answer").hidden = !now || now.over;
  $("slots").replaceChildren(...(now?.slots ?? []).map((slot) => {
    const row = make("div");
    row.append(make("dt", slot.name), make("dd", slot.secret ? `•••• (${say("secret")})` : String(slot.value)));
    return row;
  }));
  if (!now || now.over) return;
  const offers = (WAITING[now.waiting] ?? WAITING.answer)();
  $("ways").replaceChildren(...offers.ways.map(([text, line, key]) => {
    const offered = button(undefined, () => act(line, line.startsWith("/press") || !line.startsWith("/") ? text : `(${text})`), key === undefined ? "aside" : "");
    if (key) offered.append(make("b", key));
    offered.append(text);
    return offered;
  }));
  $("say").hidden = !offers.words;
  const label = offers.label ?? say(now.channel === "voice" ? "say" : "type");
  $("say-label").textContent = label;
  $("words").placeholder = label;
  if (offers.first && !$("words").value) $("words").value = offers.first;
  if (!offers.first && $("words").value === "{}") $("words").value = "";
  $("say").onsubmit = (event) => {
    event.preventDefault();
    const words = $("words").value.trim();
    $("words").value = "";
    if (words) act(words.startsWith("/") ? words : offers.words(words), now.expected?.secret ? "••••" : words);
  };
  $("expects").textContent = expected(now);
  $("script").scrollTop = $("script").scrollHeight;
}

function expected(now) {
  const wants = now.expected;
  const plain = {
    fetch: () => say("wants_fetch", now.fetch), queue: () => say("wants_queue"), person: () => say("wants_person"),
    invite: () => say("wants_invite", now.invited), transfer: () => say("wants_transfer"), record: () => say("wants_record"),
  }[now.waiting];
  const parts = [];
  if (plain) parts.push(plain());
  else if (wants?.secret) parts.push(say("wants_secret"));
  else if (wants?.slot_type === "yes_no") parts.push(say("wants_yes_no"));
  else if (wants?.slot_type && wants.slot_type !== "choice") {
    const size = wants.slot_type === "digits" && wants.maximum
      ? ` (${wants.minimum === wants.maximum ? wants.minimum : `${wants.minimum}–${wants.maximum}`})` : "";
    parts.push(say("wants_slot", `${wants.slot_type}${size}`));
  } else if (wants) parts.push(say("wants_choice"));
  if (wants && now.channel === "voice" && !wants.secret && !wants.listen.includes("speech")) parts.push(say("keys_alone"));
  if (state.stale) parts.push(say("stale"));
  return parts.join(" ");
}

// --- traffic and versions ------------------------------------------------------------------------

async function count(event) {
  event.preventDefault();
  const since = new Date(Date.now() - Number($("since").value) * 3_600_000).toISOString();
  try {
    state.counts = await ask(`flows/${encodeURIComponent(state.file)}/traffic?since=${encodeURIComponent(since)}`);
  } catch (error) {
    $("counted").textContent = error.message;
  }
  mark();
  draw();
}

async function loadVersions() {
  try {
    state.versions = await ask(`flows/${encodeURIComponent(state.file)}/versions`);
  } catch (error) {
    $("compared").textContent = error.message;
  }
  draw();
}

async function compare(event) {
  event.preventDefault();
  const wanted = new URLSearchParams({ old: $("old").value, new: $("new").value });
  $("difference").replaceChildren();
  try {
    const { lines, cut } = await ask(`flows/${encodeURIComponent(state.file)}/differences?${wanted}`);
    $("compared").textContent = lines.length ? (cut ? say("difference_cut", String(lines.length)) : "") : say("no_difference");
    const classes = { "+": "plus", "-": "minus", "@": "at" };
    $("difference").replaceChildren(...lines.map((line) => make("li", line || " ", classes[line[0]])));
  } catch (error) {
    $("compared").textContent = error.message;
  }
}

// --- the page ------------------------------------------------------------------------------------

const LOCALES = { en: undefined, zh: "zh-CN" };
const moment = (at) => new Intl.DateTimeFormat(LOCALES[language], { dateStyle: "medium", timeStyle: "short" }).format(new Date(at));
const short = (version) => version.slice(0, 12);

function languageName(code) {
  try {
    return new Intl.DisplayNames([LOCALES[language] ?? "en"], { type: "language" }).of(code);
  } catch { return code; }
}

function badge(one) {
  if (one.errors) return make("span", String(one.errors), "badge wrong");
  return one.warnings ? make("span", String(one.warnings), "badge warned") : "";
}

function draw() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
  for (const element of document.querySelectorAll(".language")) element.textContent = say("other_language");
  $("drawing").setAttribute("aria-label", say("drawing"));
  $("login").hidden = Boolean(session.token);
  $("workshop").hidden = !session.token;
  document.title = state.flow ? `${state.flow.flow || state.flow.file} · ${say("title")}` : say("title");
  if (!session.token) return;
  drawFiles();
  drawFindings();
  drawNode();
  drawTraffic();
  drawVersions();
  drawSpeaks();
  $("start").querySelector("[type=submit]").textContent = say(state.simulation ? "again" : "begin");
  if (state.simulation) $("expects").textContent = expected(state.simulation);
  for (const tab of document.querySelectorAll(".tabs button")) {
    const mine = tab.dataset.tab === state.tab;
    tab.setAttribute("aria-selected", String(mine));
    $(tab.dataset.tab).hidden = !mine;
  }
}

function drawFiles() {
  const connected = session.open;
  $("live").textContent = connected ? say("live") : "";
  $("live").classList.toggle("on", connected);
  $("files").replaceChildren(...state.files.map((one) => {
    const item = make("li");
    const chosen = button(undefined, () => open(one.file));
    chosen.append(make("span", one.flow || one.file), badge(one));
    chosen.title = one.file;
    chosen.setAttribute("aria-current", String(one.file === state.file));
    item.append(chosen);
    return item;
  }));
  $("chooser").replaceChildren(...state.files.map((one) => {
    const option = make("option", `${one.flow || one.file}${one.errors ? ` ✕ ${one.errors}` : one.warnings ? ` ! ${one.warnings}` : ""}`);
    Object.assign(option, { value: one.file, selected: one.file === state.file });
    return option;
  }));
  const broken = state.flow && !state.flow.loads;
  $("broken").hidden = !broken;
  $("broken").textContent = broken ? say(state.drawn ? "broken" : "undrawable") : "";
  $("legend").replaceChildren(...SORTS.map((sort) => {
    const item = make("li");
    item.append(make("i", undefined, sort), say(sort));
    return item;
  }));
}

function drawFindings() {
  $("count").textContent = state.findings.length ? String(state.findings.length) : "";
  $("no-findings").hidden = state.findings.length > 0;
  $("finding-list").replaceChildren(...state.findings.slice(0, 300).map((one) => {
    const item = make("li");
    const shown = button(undefined, () => choose(one.node, true), one.code.startsWith("E") ? "wrong" : "");
    const head = make("small");
    head.append(make("b", one.code), make("span", [one.node, say("place", String(one.line), String(one.column))].filter(Boolean).join(" · ")));
    shown.append(head, make("span", one.message));
    item.append(shown);
    return item;
  }));
}

function drawNode() {
  const node = state.drawn?.nodes.find((one) => one.name === state.chosen);
  $("no-node").hidden = Boolean(node);
  $("node-card").hidden = !node;
  if (!node) return;
  $("node-name").textContent = node.name;
  $("node-kind").textContent = node.kind;
  $("node-place").textContent = say("node_place", state.drawn.file, String(node.line));
  $("node-source").textContent = node.source;
  $("node-exits").replaceChildren(...node.exits.map((way) => {
    const item = make("li");
    item.append(button(say("goes_to", way.label, way.target), () => choose(way.target, true), way.miss ? "miss" : ""));
    return item;
  }));
}

function drawTraffic() {
  const counts = state.counts;
  $("uncount").hidden = !counts;
  $("counted").textContent = counts ? say(counts.cut ? "counted_cut" : "counted", String(counts.conversations)) : "";
  const rows = Object.entries(counts?.lost ?? {}).sort((a, b) => b[1] - a[1]);
  $("lost").hidden = !rows.length;
  $("lost").tBodies[0].replaceChildren(...rows.map(([name, lost]) => {
    const row = make("tr");
    const entered = counts.nodes[name] ?? 0;
    const first = make("td");
    first.append(button(name, () => { choose(name, true); state.tab = "traffic"; draw(); }));
    const share = entered ? ` (${Math.round((100 * lost) / entered)} %)` : "";
    row.append(first, make("td", String(entered)), make("td", `${lost}${share}`));
    return row;
  }));
}

function drawVersions() {
  const found = state.versions;
  const all = found?.releases ?? [];
  $("no-versions").hidden = !found || all.length > 0;
  $("compare").hidden = !all.length;
  $("releases").replaceChildren(...all.map((one) => {
    const item = make("li", undefined, one.state);
    const head = make("div");
    head.append(make("code", short(one.version)));
    if (one.version === found.answering) head.append(make("span", say("answers"), "badge on"));
    else if (one.version === found.rollout) head.append(make("span", say("rollout", String(found.percent)), "badge on"));
    else head.append(make("span", say(one.state === "live" ? "live_version" : one.state), "badge"));
    if (one.version === found.draft) head.append(make("span", say("draft_same"), "badge"));
    item.append(head, make("small", [moment(one.at), one.who, one.note].filter(Boolean).join(" · ")));
    return item;
  }));
  const versions = [...new Set(all.map((one) => one.version))];
  const fill = (select, values, chosen) => {
    const before = values.includes(select.value) ? select.value : chosen;
    select.replaceChildren(...values.map((value) => {
      const option = make("option", value ? short(value) : say("the_file"));
      Object.assign(option, { value, selected: value === before });
      return option;
    }));
  };
  fill($("old"), versions, found?.answering || versions[0]);
  fill($("new"), ["", ...versions], "");
}

function drawSpeaks() {
  const before = $("speaks").value;
  $("speaks").replaceChildren(...["", ...(state.drawn?.languages ?? [])].map((code) => {
    const option = make("option", code ? languageName(code) : say("any"));
    Object.assign(option, { value: code, selected: code === before });
    return option;
  }));
}

// --- wiring --------------------------------------------------------------------------------------

$("login-form").addEventListener("submit", logIn);
$("logout").addEventListener("click", logOut);
$("start").addEventListener("submit", begin);
$("count-form").addEventListener("submit", count);
$("compare").addEventListener("submit", compare);
$("record").addEventListener("click", () => send({ type: "record" }));
$("uncount").addEventListener("click", () => { state.counts = null; mark(); draw(); });
$("chooser").addEventListener("change", () => open($("chooser").value));
$("in").addEventListener("click", () => canvas.zoom(1.25));
$("out").addEventListener("click", () => canvas.zoom(0.8));
$("fit").addEventListener("click", () => canvas.fit());
$("all").addEventListener("change", async () => {
  if (!state.drawn) return;
  await canvas.draw(state.drawn, { all: $("all").checked });
  mark();
});
for (const tab of document.querySelectorAll(".tabs button")) {
  tab.addEventListener("click", () => {
    state.tab = stored(sessionStorage, "tab", tab.dataset.tab);
    if (state.tab === "versions") loadVersions();
    draw();
  });
}
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...event.currentTarget.children];
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
});
for (const element of document.querySelectorAll(".language")) {
  element.addEventListener("click", () => {
    language = stored(localStorage, "language", language === "en" ? "zh" : "en");
    draw();
    if (state.simulation) drawSimulation();
  });
}
draw();
session.start();
