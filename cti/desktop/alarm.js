// What calls the agent back to the page when a customer comes: a sound, a notification of the
// desktop, and the title.

import { desk } from "./desk.js";
import { flat, say, worded } from "./language.js";
import { preferences } from "./preferences.js";
import { customer } from "./works.js";

const EVERY = 2400;
const TONES = [[659, 0], [880, 0.16]]; // Hz, and seconds after the first

class Alarm {
  constructor() {
    this._shown = new Map();
    this._soundedAt = 0;
    this._even = false;
  }

  get refused() { return !("Notification" in window) || Notification.permission === "denied"; }

  start() {
    desk.addEventListener("offer", (event) => this._notify(event.detail));
    desk.addEventListener("message", ({ detail }) => {
      if (detail.message.who === "customer" && document.hidden) this._tone(0.4);
    });
    desk.addEventListener("change", () => this._tidy());
    setInterval(() => this._flash(), 1000);
    // A browser lets a page sound only after it was touched.
    for (const touch of ["pointerdown", "keydown"])
      addEventListener(touch, () => { this._context?.resume().catch(() => {}); }, { passive: true });
  }

  // Ask for leave to notify, upon a click.
  async allow() {
    if (!("Notification" in window)) return;
    await Notification.requestPermission();
  }

  try() { if (preferences.sound) this._tone(); }

  _calling() {
    return [...desk.works.values()].filter(({ card }) => ["offered", "ringing"].includes(card.stage));
  }

  _notify(card) {
    this._sound();
    if (!preferences.notify || this.refused || !document.hidden) return;
    const title = flat([say(`stage_${card.kind === "call" ? "" : "text_"}offered`), customer(card)].join(" · "));
    const body = flat([worded(card.topic), card.number].filter(Boolean).join(" · "));
    const shown = new Notification(title, { body, tag: card.conversation, icon: "/agent/icon.svg" });
    shown.onclick = () => { focus(); desk.choose(card.conversation); shown.close(); };
    this._shown.set(card.conversation, shown);
  }

  _tidy() {
    for (const [conversation, shown] of this._shown) {
      if (this._calling().some(({ card }) => card.conversation === conversation)) continue;
      shown.close();
      this._shown.delete(conversation);
    }
  }

  _flash() {
    const [first] = this._calling();
    const unread = [...desk.works.values()].reduce((sum, work) => sum + work.unread, 0);
    this._even = !this._even;
    let title = unread ? `(${unread}) ${say("title")}` : say("title");
    if (first && this._even) {
      const { card } = first;
      title = `☎ ${flat([customer(card), worded(card.topic)].filter(Boolean).join(" · "))}`;
    }
    if (document.title !== title) document.title = title;
    if (first) this._sound();
  }

  _sound() {
    if (!preferences.sound || Date.now() - this._soundedAt < EVERY) return;
    this._soundedAt = Date.now();
    this._tone();
  }

  _tone(loud = 1) {
    if (!preferences.sound || !window.AudioContext) return;
    this._context ??= new AudioContext();
    if (this._context.state !== "running") { this._context.resume().catch(() => {}); return; }
    const begin = this._context.currentTime;
    for (const [pitch, after] of TONES) {
      const tone = new OscillatorNode(this._context, { frequency: pitch, type: "sine" });
      const gain = new GainNode(this._context, { gain: 0 });
      gain.gain.setValueAtTime(0, begin + after);
      gain.gain.linearRampToValueAtTime(0.12 * loud, begin + after + 0.02);
      gain.gain.exponentialRampToValueAtTime(0.001, begin + after + 0.4);
      tone.connect(gain).connect(this._context.destination);
      tone.start(begin + after);
      tone.stop(begin + after + 0.45);
    }
  }
}

export const alarm = new Alarm();
