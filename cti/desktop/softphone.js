// The telephone in the page: JsSIP over the WebSocket that `/api/phone` names, beside whatever desk
// phone the agent has. What happens to the call is the server's to tell; this only carries its sound.

import { desk } from "./desk.js";
import { say } from "./language.js";
import { preferences } from "./preferences.js";

const MEDIA = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true }, video: false };
const TROUBLES = {
  NotAllowedError: "mic_denied", NotFoundError: "mic_missing", NotReadableError: "mic_busy",
  OverconstrainedError: "mic_missing",
};

class Softphone {
  constructor() {
    this._turn = 0;
    this.possible = false;
    this._rest();
  }

  _rest() {
    Object.assign(this, { state: "off", extension: "", session: null, ringing: false, talking: false, muted: false,
      number: "", heard: 0, spoken: 0 });
  }

  start() {
    this._audio = document.createElement("audio");
    this._audio.autoplay = true;
    document.body.append(this._audio);
    desk.addEventListener("hello", () => { if (this.state === "off") this.restart(); });
    desk.session.addEventListener("out", () => this.stop());
    addEventListener("pagehide", () => this.stop());
    desk.addEventListener("change", () => { if (!desk.agent && this.state !== "off") this.stop(); });
  }

  async restart() {
    this.stop();
    this.possible ||= !preferences.softphone;
    if (!desk.agent?.extension || !preferences.softphone) return;
    const turn = ++this._turn;
    this._to("connecting");
    try {
      const account = await desk.session.ask("/api/phone");
      this.possible = true;
      const { default: JsSIP } = await import("./vendor/jssip.js");
      if (turn !== this._turn) return;
      this._register(JsSIP, account);
    } catch (error) {
      if (turn !== this._turn) return;
      this.possible = error.status !== 404; // this hotline, or this agent, has none
      this._to(this.possible ? "failed" : "off");
    }
  }

  stop() {
    this._turn += 1;
    const agent = this._agent;
    this._agent = null;
    agent?.stop();
    this._silence();
    this._rest();
    this._told();
  }

  _register(JsSIP, { uri, password, ws, extension }) {
    JsSIP.debug.disable();
    const socket = new JsSIP.WebSocketInterface(String(new URL(ws, location.href.replace(/^http/, "ws"))));
    const agent = new JsSIP.UA({
      uri, password, sockets: [socket], session_timers: false,
      register_expires: 120, user_agent: "Hotline desktop",
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 10,
    });
    this._agent = agent;
    this.extension = extension;
    const mine = (act) => (event) => { if (agent === this._agent) act(event); };
    agent.on("registered", mine(() => this._to("ready")));
    agent.on("unregistered", mine(() => this._to("connecting")));
    agent.on("registrationFailed", mine(() => this._to("failed")));
    agent.on("disconnected", mine(() => this._to("connecting")));
    agent.on("newRTCSession", mine(({ originator, session }) => {
      if (originator !== "remote") return;
      if (this.session) session.terminate({ status_code: 486 });
      else this._rings(session);
    }));
    agent.start();
  }

  _rings(session) {
    const over = () => {
      if (session !== this.session) return;
      this._silence();
      Object.assign(this, { session: null, ringing: false, talking: false, muted: false });
      this._told();
    };
    Object.assign(this, { session, ringing: true, talking: false, muted: false,
      number: session.remote_identity?.display_name || session.remote_identity?.uri?.user || "" });
    session.on("peerconnection", ({ peerconnection }) => peerconnection.addEventListener("track", ({ streams, track }) => {
      this._play(streams[0] ?? new MediaStream([track]));
    }));
    session.on("confirmed", () => { Object.assign(this, { ringing: false, talking: true }); this._listen(session); this._told(); });
    session.on("ended", over);
    session.on("failed", ({ cause }) => {
      over();
      if (cause === "WebRTC Error" || cause === "Incompatible SDP") desk.notice(say("phone_media"));
    });
    this._told();
    if (preferences.autoAnswer) this.answer();
  }

  // The microphone is asked for first, so that what is wrong with it can be told by name.
  async answer() {
    const session = this.session;
    if (!session || !this.ringing || this._asking) return;
    this._asking = true;
    try {
      if (!navigator.mediaDevices) throw Object.assign(new Error(), { name: "insecure" });
      const stream = await navigator.mediaDevices.getUserMedia(MEDIA);
      if (session !== this.session || !this.ringing) { stop(stream); return; }
      this._microphone = stream;
      session.answer({ mediaStream: stream, pcConfig: { iceServers: [] }, rtcAnswerConstraints: {} });
    } catch (error) {
      desk.notice(say(TROUBLES[error.name] ?? (error.name === "insecure" ? "mic_insecure" : "mic_failed")));
    } finally {
      this._asking = false;
    }
  }

  hangUp() {
    if (!this.session?.isEnded()) this.session?.terminate(this.ringing ? { status_code: 486 } : undefined);
  }

  mute(on) {
    if (on) this.session?.mute({ audio: true }); else this.session?.unmute({ audio: true });
    this.muted = on;
    this._told();
  }

  _play(stream) {
    this._audio.srcObject = stream;
    this._audio.play().catch(() => desk.notice(say("phone_blocked")));
    this._heardFrom = stream;
  }

  // How loud both sides are, ten times a second, from 0 to 1.
  _listen(session) {
    this._context ??= new AudioContext();
    this._context.resume().catch(() => {});
    const ear = (stream) => {
      if (!stream) return () => 0;
      const analyser = new AnalyserNode(this._context, { fftSize: 512 });
      new MediaStreamAudioSourceNode(this._context, { mediaStream: stream }).connect(analyser);
      const wave = new Float32Array(analyser.fftSize);
      return () => {
        analyser.getFloatTimeDomainData(wave);
        const rms = Math.sqrt(wave.reduce((sum, one) => sum + one * one, 0) / wave.length);
        return Math.max(0, Math.min(1, 1 + Math.log10(rms + 1e-6) / 3)); // -60 dB is 0
      };
    };
    const hear = ear(this._heardFrom), speak = ear(this._microphone);
    this._meter = setInterval(() => {
      if (session !== this.session) return;
      this.heard = hear();
      this.spoken = this.muted ? 0 : speak();
      desk.dispatchEvent(new Event("level"));
    }, 100);
  }

  _silence() {
    clearInterval(this._meter);
    stop(this._microphone);
    this._microphone = this._heardFrom = null;
    this.heard = this.spoken = 0;
    if (this._audio) this._audio.srcObject = null;
  }

  _to(state) {
    this.state = state;
    this._told();
  }

  _told() { desk.dispatchEvent(new Event("change")); }
}

function stop(stream) { for (const track of stream?.getTracks() ?? []) track.stop(); }

export const softphone = new Softphone();
