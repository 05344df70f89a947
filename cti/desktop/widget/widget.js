// The chat on a website, in one script tag:
//   <script src="https://hotline.example.com/chat/widget.js" data-language="en" async></script>
// It lives in a shadow root of its own, sets what anybody writes as text and never as markup, needs
// of the site's policy `script-src` and `connect-src` of our server alone, and keeps what
// docs/chat-protocol.md promises: nothing lost, nothing twice.
"use strict";
(() => {
  const script = document.currentScript;
  const server = new URL(script.src).origin;
  const KEY = `hotline-chat ${server}`;
  const RETRY_SECONDS = [0.5, 1, 2, 5, 10, 30];
  const TYPING_SECONDS = 4;

  const TEXTS = {
    en: {
      title: "Chat with us",
      open: "Open the chat",
      close: "Close the chat",
      write: "Write a message",
      send: "Send",
      end: "End the chat",
      again: "Start a new chat",
      you: "You",
      flow: "Assistant",
      agent: "Agent",
      connecting: "Connecting…",
      offline: "No connection. Your messages are sent when it is back.",
      none: "",
      assistant: "You are chatting with our assistant.",
      queued: "Somebody will be with you soon.",
      person: "You are chatting with one of our people.",
      ended: "This chat has ended.",
      typing: "is writing…",
      sending: "sending",
      sent: "sent",
      read: "read",
      failed: "The message could not be sent.",
      new: (count) => `${count} new`,
    },
    zh: {
      title: "在线客服",
      open: "打开聊天",
      close: "关闭聊天",
      write: "请输入消息",
      send: "发送",
      end: "结束对话",
      again: "开始新的对话",
      you: "您",
      flow: "智能助手",
      agent: "客服",
      connecting: "正在连接…",
      offline: "连接已断开，恢复后会自动发送您的消息。",
      none: "",
      assistant: "您正在与智能助手对话。",
      queued: "客服马上就来，请稍候。",
      person: "您正在与人工客服对话。",
      ended: "对话已结束。",
      typing: "正在输入…",
      sending: "发送中",
      sent: "已发送",
      read: "已读",
      failed: "消息未能发送。",
      new: (count) => `${count} 条新消息`,
    },
  };
  const wanted = script.dataset.language || document.documentElement.lang || navigator.language;
  const language = (wanted || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  const t = TEXTS[language];

  const STYLE = `
    :host { all: initial; position: fixed; inset-block-end: 1rem; inset-inline-end: 1rem;
      z-index: 2147483000; font: 16px/1.45 system-ui, "PingFang SC", "Microsoft YaHei", sans-serif;
      color: #17202a; color-scheme: light; }
    * { box-sizing: border-box; font: inherit; color: inherit; }
    button { cursor: pointer; border: 1px solid transparent; border-radius: 1.4rem; min-height: 44px;
      padding: .5rem 1rem; background: #0b5cad; color: #fff; }
    button:focus-visible, textarea:focus-visible, .log:focus-visible {
      outline: 3px solid #f0a30a; outline-offset: 2px; }
    button:disabled { opacity: .5; cursor: default; }
    .plain { background: none; color: inherit; padding: .25rem .6rem; }
    .panel { display: flex; flex-direction: column; inline-size: min(24rem, 100vw - 2rem);
      block-size: min(36rem, 100dvh - 2rem); background: #fff; border: 1px solid #ccd3da;
      border-radius: .8rem; box-shadow: 0 .5rem 2rem #0004; overflow: hidden; }
    [hidden] { display: none !important; }
    header { display: flex; align-items: center; gap: .5rem; padding: .4rem .4rem .4rem 1rem;
      background: #0b5cad; color: #fff; }
    h2 { flex: 1; margin: 0; font-weight: 600; }
    .state { margin: 0; padding: .35rem 1rem; background: #eef3f8; font-size: .875rem; min-block-size: 2em; }
    .log { flex: 1; overflow-y: auto; padding: .75rem 1rem; margin: 0; list-style: none;
      overscroll-behavior: contain; }
    li { margin: 0 0 .75rem; display: flex; flex-direction: column; align-items: flex-start; }
    li.customer { align-items: flex-end; }
    .text { max-inline-size: 85%; padding: .5rem .8rem; border-radius: .9rem; background: #eef1f4;
      white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
    .customer .text { background: #d9ebfc; }
    .agent .text { background: #e5f4e3; }
    .about { font-size: .8rem; color: #56616c; margin: .1rem .3rem; unicode-bidi: isolate; }
    .choices { display: flex; flex-wrap: wrap; gap: .4rem; margin-block-start: .4rem; }
    .choices button { background: #fff; color: #0b5cad; border-color: #0b5cad; overflow-wrap: anywhere; }
    .typing { margin: 0; padding: 0 1rem; font-size: .85rem; color: #56616c; min-block-size: 1.4em; }
    form { display: flex; gap: .5rem; padding: .6rem; border-block-start: 1px solid #dde3e9; align-items: flex-end; }
    textarea { flex: 1; min-inline-size: 0; resize: none; padding: .6rem .8rem; border: 1px solid #8a96a3; border-radius: .8rem;
      max-block-size: 8rem; min-block-size: 44px; background: #fff; }
    .hidden { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
    @media (max-width: 30rem) {
      :host(.open) { inset: 0; }
      .panel { inline-size: 100vw; block-size: 100dvh; border: 0; border-radius: 0; }
    }
    @media (prefers-reduced-motion: no-preference) { .panel { animation: rise .15s ease-out; } }
    @keyframes rise { from { transform: translateY(.5rem); opacity: .4; } }`;

  // --- what this page has, kept over reloads ----------------------------------------------------

  const kept = { token: "", conversation: "", unsent: [] };
  try {
    Object.assign(kept, JSON.parse(localStorage.getItem(KEY) || "{}"));
  } catch {
    // Storage may be forbidden or spoilt: the chat then lasts as long as the page.
  }
  const keep = () => {
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // as above
    }
  };

  // --- the page ---------------------------------------------------------------------------------

  const element = (name, attributes = {}, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const host = element("div", { lang: language });
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];

  const opener = element("button", { type: "button", "aria-haspopup": "dialog" }, t.open);
  const title = element("h2", { id: "title" }, script.dataset.title || t.title);
  const closer = element("button", { type: "button", class: "plain", "aria-label": t.close }, "✕");
  const ender = element("button", { type: "button", class: "plain" }, t.end);
  const state = element("p", { class: "state", role: "status" });
  const log = element("ol", { class: "log", role: "log", "aria-live": "polite", tabindex: "0",
    "aria-label": t.title });
  const typing = element("p", { class: "typing", "aria-live": "off" });
  const input = element("textarea", { id: "input", rows: "1", maxlength: "4000",
    placeholder: t.write, enterkeyhint: "send", autocomplete: "off" });
  const sender = element("button", { type: "submit" }, t.send);
  const again = element("button", { type: "button" }, t.again);
  const form = element("form", {},
    element("label", { class: "hidden", for: "input" }, t.write), input, sender, again);
  const panel = element("section", { class: "panel", role: "dialog", "aria-labelledby": "title" },
    element("header", {}, title, ender, closer), state, log, typing, form);
  panel.hidden = true;
  root.append(opener, panel);

  // --- the thread -------------------------------------------------------------------------------

  let thread = new Map(); // number → message
  let readUpTo = 0; // of ours, by an agent
  let toldRead = 0;
  let standing = "none";
  let connected = false;
  let unseen = 0;
  let trouble = "";
  let beginning = false;

  const last = () => {
    let number = 0;
    while (thread.has(number + 1)) number += 1;
    return number;
  };

  const row = (message, pending) => {
    const line = element("li", { class: message.who });
    const name = message.who === "customer" ? t.you : message.name || t[message.who];
    line.append(element("span", { class: "hidden" }, `${name}: `));
    if (message.text) line.append(element("div", { class: "text", dir: "auto" }, message.text));
    const at = new Date(message.at).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
    const status = message.who !== "customer" ? ""
      : pending ? t.sending : message.number <= readUpTo || message.status === "read" ? t.read : t.sent;
    line.append(element("span", { class: "about" },
      [message.who === "customer" ? "" : name, at, status].filter(Boolean).join(" · ")));
    return line;
  };

  const choices = (message) => {
    const box = element("div", { class: "choices", role: "group" });
    for (const { label } of message.choices) {
      const button = element("button", { type: "button", dir: "auto" }, label);
      button.addEventListener("click", () => write(label, message.turn));
      box.append(button);
    }
    return box;
  };

  const draw = () => {
    const low = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    const messages = [...thread.values()].sort((a, b) => a.number - b.number);
    const known = new Set(messages.filter((one) => one.who === "customer").map((one) => one.id));
    const rows = messages.map((message) => row(message, false));
    const asked = messages.at(-1);
    if (asked?.choices?.length && standing === "flow") rows.at(-1).append(choices(asked));
    for (const one of kept.unsent) {
      if (!known.has(one.id)) rows.push(row({ ...one, who: "customer", at: one.at }, true));
    }
    log.replaceChildren(...rows);
    if (low) log.scrollTop = log.scrollHeight;
    const now = { flow: t.assistant, queued: t.queued, person: t.person, ended: t.ended, none: "" };
    state.textContent = trouble || (connected ? now[standing] : kept.token ? t.offline : t.connecting);
    const over = !beginning && (standing === "ended" || (connected && standing === "none"));
    again.hidden = !over;
    input.hidden = sender.hidden = over;
    ender.hidden = over;
    opener.textContent = unseen ? `${t.open} (${t.new(unseen)})` : t.open;
  };

  const tellRead = () => {
    if (!panel.hidden && document.visibilityState === "visible" && last() > toldRead) {
      toldRead = kept.read = last();
      keep();
      send({ type: "read", up_to: toldRead });
    }
  };

  // --- the wire ---------------------------------------------------------------------------------

  let socket = null;
  let tries = 0;
  let timer = 0;

  const send = (frame) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ v: 1, ...frame }));
  };

  const take = (messages, more) => {
    for (const message of messages) {
      const fresh = !thread.has(message.number);
      thread.set(message.number, message);
      if (message.who === "customer") {
        kept.unsent = kept.unsent.filter((one) => one.id !== message.id);
      } else if (fresh && panel.hidden && message.number > (kept.read || 0)) {
        unseen += 1;
      }
    }
    keep();
    if (last()) send({ type: "got", up_to: last() });
    if (more) send({ type: "history", after: last() });
    tellRead();
  };

  const NEWS = {
    opened(frame) {
      const same = frame.conversation && frame.conversation === kept.conversation;
      if (!same) {
        thread = new Map();
        readUpTo = toldRead = kept.read = 0;
        if (kept.conversation) kept.unsent = [];
      }
      kept.token = frame.token;
      if (frame.conversation) kept.conversation = frame.conversation;
      connected = true;
      tries = 0;
      standing = frame.state;
      beginning = beginning && !frame.conversation;
      take(frame.messages, frame.more);
      if (!frame.conversation && !panel.hidden && !same) begin();
      else for (const { id, text, turn } of kept.unsent) send({ type: "text", id, text, turn });
    },
    thread: (frame) => take(frame.messages, frame.more),
    message: (frame) => take([frame.message], false),
    accepted(frame) {
      trouble = "";
      // It is in the thread already, or comes with it; kept until then for the eye.
      if ([...thread.values()].some((one) => one.id === frame.id)) {
        kept.unsent = kept.unsent.filter((one) => one.id !== frame.id);
      }
    },
    state(frame) {
      standing = frame.state;
    },
    typing(frame) {
      typing.textContent = frame.on ? `${frame.name || t.agent} ${t.typing}` : "";
    },
    read(frame) {
      readUpTo = Math.max(readUpTo, frame.up_to);
    },
    error(frame) {
      if (frame.id && frame.code !== "unavailable") {
        kept.unsent = kept.unsent.filter((one) => one.id !== frame.id);
        keep();
      }
      beginning = false;
      trouble = t.failed;
    },
  };

  const connect = () => {
    clearTimeout(timer);
    if (socket && socket.readyState <= WebSocket.OPEN) return;
    socket = new WebSocket(`${server.replace(/^http/, "ws")}/api/chat`);
    socket.addEventListener("open", () =>
      send({ type: "open", token: kept.token, conversation: kept.conversation, after: last() }));
    socket.addEventListener("message", (event) => {
      const frame = JSON.parse(event.data);
      NEWS[frame.type]?.(frame);
      draw();
    });
    socket.addEventListener("close", () => {
      connected = false;
      typing.textContent = "";
      const seconds = RETRY_SECONDS[Math.min(tries, RETRY_SECONDS.length - 1)];
      tries += 1;
      timer = setTimeout(connect, seconds * 1000 * (0.75 + Math.random() / 2));
      draw();
    });
  };

  const begin = () => {
    beginning = true;
    send({ type: "begin", language });
  };

  const write = (text, turn) => {
    if (!text.trim()) return;
    trouble = "";
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)),
      (byte) => byte.toString(16).padStart(2, "0")).join("");
    const one = { id, text, at: new Date().toISOString(), ...(turn == null ? {} : { turn }) };
    kept.unsent.push(one);
    keep();
    if (connected) send({ type: "text", id, text, ...(turn == null ? {} : { turn }) });
    log.scrollTop = log.scrollHeight;
    draw();
  };

  // --- what people do ---------------------------------------------------------------------------

  const show = (open) => {
    panel.hidden = !open;
    opener.hidden = open;
    host.classList.toggle("open", open);
    if (open) {
      unseen = 0;
      connect();
      if (connected && standing === "none") begin();
      tellRead();
      draw();
      log.scrollTop = log.scrollHeight;
      (input.hidden ? again : input).focus();
    } else {
      draw();
      opener.focus();
    }
  };

  let wrote = 0;
  opener.addEventListener("click", () => show(true));
  closer.addEventListener("click", () => show(false));
  ender.addEventListener("click", () => send({ type: "end" }));
  again.addEventListener("click", () => {
    thread = new Map();
    begin();
    input.hidden = false;
    input.focus();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(false);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  input.addEventListener("input", () => {
    if (Date.now() - wrote > TYPING_SECONDS * 500) {
      wrote = Date.now();
      send({ type: "typing", on: true });
    }
    clearTimeout(input.rest);
    input.rest = setTimeout(() => send({ type: "typing", on: false }), TYPING_SECONDS * 1000);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    write(input.value);
    input.value = "";
    clearTimeout(input.rest);
    send({ type: "typing", on: false });
  });
  addEventListener("online", connect);
  document.addEventListener("visibilitychange", tellRead);

  const start = () => {
    document.body.append(host);
    if (kept.conversation) connect(); // somebody may have answered meanwhile
    draw();
  };
  if (document.body) start();
  else addEventListener("DOMContentLoaded", start);
})();
