"""The flow in a terminal: what a caller hears or an SMS shows, and what the flow makes of it.

A line is what the customer says (on a call) or types (elsewhere). A line with a slash before it is
a command, listed in `COMMANDS`. Reading lines and printing belong to whoever runs the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ivr.flow.events import Note
from ivr.flow.facts import NOTHING, Facts
from ivr.flow.keypad import KEYS
from ivr.flow.schema import Bundle
from ivr.flow.testing.player import CannotHappen, Player
from ivr.flow.testing.recording import Recorder
from ivr.flow.testing.script import TRANSFERS, Answer, Given, duration

LINE_LIMIT = 2_000
_SHOWN_LIMIT = 4_000
_UNSURE = 0.5

Show = Callable[[str, str], None]
"""Prints one line. The first argument is what it is: `said`, `sent`, `asked`, `event`, `told` (an
answer to a command) or `wrong`."""


class Terminal:
    """One simulated conversation. `over` is true once there is nothing more to do."""

    def __init__(self, bundle: Bundle, given: Given, show: Show, facts: Facts = NOTHING):
        self.over = False
        self._show_line = show
        self._bundle = bundle
        self._sent = 0
        self._heard = 0
        self._noted = 0
        self._ended = False
        self._fetch = ""
        self._recorder = Recorder(bundle.entry, given)
        self.player = Player(bundle, given.started(), now=given.at, facts=facts)
        self._report()

    def line(self, text: str) -> None:
        """Take one line of the designer's."""
        text = text[:LINE_LIMIT].strip()
        if not text:
            return
        try:
            if text.startswith("/"):
                name, _, rest = text[1:].partition(" ")
                command = COMMANDS.get(name)
                if command is None:
                    raise CannotHappen(f"there is no /{name}; /help lists what there is")
                command.run(self, rest.strip())
            else:
                voice = self.player.voice
                act = self.player.say if voice else self.player.type
                self._do("says" if voice else "types", text, lambda: act(text))
        except CannotHappen as error:
            self._show("wrong", str(error))
        else:
            self._report()

    def recording(self, name: str) -> str:
        """The conversation so far as a test file."""
        return self._recorder.finish(self.player, name)

    # --- what the designer sees -----------------------------------------------------------------

    def _show(self, kind: str, text: str) -> None:
        for line in text[:_SHOWN_LIMIT].splitlines() or [""]:
            self._show_line(kind, "".join(char if char.isprintable() else " " for char in line))

    def _report(self) -> None:
        """Show what has happened since the last time."""
        player = self.player
        if player.remark:
            self._show("event", player.remark)
        printed = 0
        for text in player.heard[self._heard :]:
            self._show("said", text)
            printed += not player.voice
        self._heard = len(player.heard)
        for sent in player.sent[self._sent :]:
            if sent.channel != player.state.channel or not printed:
                self._show("sent", f"to {sent.channel}: {sent.text}")
        self._sent = len(player.sent)
        for note in player.notes[self._noted :]:
            if (telling := _EVENTS.get(note.kind)) is not None:
                self._show("event", telling.format_map(_Blank(note.body)))
        self._noted = len(player.notes)
        if player.fetch is not None:
            self._ask_fetch()
        elif not player.ended:
            self._recorder.heard(player)
        if player.ended and not self._ended:
            self._ended = True
            self._recorder.heard(player)
            self._show("event", f"the conversation is over ({player.state.outcome})")
        self.over = self.over or player.ended

    def _ask_fetch(self) -> None:
        fetch = self.player.fetch
        assert fetch is not None
        self._fetch = f"{fetch.method} {fetch.system}{fetch.path}"
        self._show("asked", f"the flow asks {self._fetch}")
        self._show("asked", 'answer with /fetch {"name": "Ann"}, /fetch 404, or /fetch fail')

    def _do(self, step: str, value: Any, act: Callable[[], None]) -> None:
        """Let the customer (or the world) do something, and note it as a test's step."""
        if self.player.fetch is not None:
            raise CannotHappen(f"first answer {self._fetch}, with /fetch")
        secret = self.player.state.question.secret
        act()
        self._recorder.did(step, value, secret=secret)

    # --- commands -------------------------------------------------------------------------------

    def press(self, rest: str) -> None:
        keys = "".join(rest.upper().split())
        if not keys or not set(keys) <= KEYS:
            raise CannotHappen("write the keys: /press 123#")
        self._do("presses", keys, lambda: self.player.press(keys))

    def unsure(self, rest: str) -> None:
        if not rest or not self.player.voice:
            raise CannotHappen("write what is said on a call: /unsure billing")
        said = {"text": rest, "confidence": _UNSURE}
        self._do("says", said, lambda: self.player.say(rest, _UNSURE))

    def silent(self, rest: str) -> None:
        for _ in range(int(rest) if rest.isdecimal() and len(rest) < 3 else 1):
            self._do("silent", 1, self.player.silence)
            if self.player.fetch is not None or self.player.ended:
                break
            self._report()

    def hang_up(self, rest: str) -> None:
        self._do("hangs_up", True, self.player.hang_up)

    def fetch(self, rest: str) -> None:
        if self.player.fetch is None:
            raise CannotHappen("the flow is not asking another system now")
        answer = _answer(rest)
        self._recorder.answered(self._fetch, answer)
        self.player.answer_fetch(0 if answer.error else answer.status, answer.json, answer.error)

    def join(self, rest: str) -> None:
        self._do("expect", {"channel": self.player.invited}, self.player.arrive)

    def wait(self, rest: str) -> None:
        seconds = duration(rest)
        if seconds is None:
            raise CannotHappen("write how long: /wait 90s")
        self._do("happens", {"passes": rest}, lambda: self.player.wait(seconds))

    def agent(self, rest: str) -> None:
        if self.player.state.waiting.kind == "person":
            self._happen("left", True)
        else:
            self._happen("joined", rest or "ann")

    def nobody(self, rest: str) -> None:
        self._happen("nobody", "nobody")

    def ahead(self, rest: str) -> None:
        if not rest.isdecimal() or len(rest) > 4:
            raise CannotHappen("write how many are before the customer: /ahead 3")
        self._happen("ahead", int(rest))

    def transfer(self, rest: str) -> None:
        if rest not in TRANSFERS:
            raise CannotHappen(f"write how it goes: /transfer {' or '.join(TRANSFERS)}")
        self._happen("transfer", rest)

    def undelivered(self, rest: str) -> None:
        self._happen("undelivered", True)

    def _happen(self, kind: str, value: Any) -> None:
        self._do("happens", {kind: value}, lambda: self.player.happen(kind, value))

    def slots(self, rest: str) -> None:
        state = self.player.state
        secrets = state.frames[-1].secrets if state.frames else {}
        known = {name: value for name, value in state.slots.items() if value is not None}
        for name, value in {**known, **state.public_values()}.items():
            self._show("told", f"{name} = {json.dumps(value, ensure_ascii=False, default=str)}")
        for name in secrets:
            self._show("told", f"{name} = (secret)")
        if not known and not secrets and not state.public_values():
            self._show("told", "nothing is known yet")

    def why(self, rest: str) -> None:
        state = self.player.state
        for note in self.player.notes[self.player.began :]:
            self._show("told", _sentence(note))
        flow = self._bundle.flows.get(state.flow)
        line = flow.where("nodes", state.node)[0] if flow else 0
        waits = f", waiting for {state.waiting.kind}" if state.waiting.kind else ""
        self._show("told", f"now at {state.node} ({flow.file if flow else ''}:{line}){waits}")

    def help(self, rest: str) -> None:
        self._show("told", "a line without a slash is what the customer says or types")
        for name, command in COMMANDS.items():
            self._show("told", f"/{name} {command.argument}".ljust(20) + command.text)

    def quit(self, rest: str) -> None:
        self.over = True


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command: what follows it, and what it does."""

    argument: str
    text: str
    run: Callable[[Terminal, str], None]


COMMANDS: Mapping[str, Command] = {
    "press": Command("KEYS", "press keys, as in /press 123#", Terminal.press),
    "silent": Command("[N]", "say nothing, once or N times", Terminal.silent),
    "unsure": Command("TEXT", "say something that is not understood well", Terminal.unsure),
    "hangup": Command("", "hang up", Terminal.hang_up),
    "slots": Command("", "what the conversation knows", Terminal.slots),
    "why": Command("", "what the flow decided at the last step", Terminal.why),
    "fetch": Command("ANSWER", "what another system answers: JSON, 404, or fail", Terminal.fetch),
    "join": Command("", "turn up on the channel that an invitation names", Terminal.join),
    "undelivered": Command("", "the invitation does not get there", Terminal.undelivered),
    "agent": Command("[NAME]", "a person takes over, or the one who talks is done", Terminal.agent),
    "nobody": Command("", "nobody can take the conversation", Terminal.nobody),
    "ahead": Command("N", "so many are before the customer in the queue", Terminal.ahead),
    "transfer": Command("OUTCOME", "answered, busy, no_answer or refused", Terminal.transfer),
    "wait": Command("TIME", "let time pass, as in /wait 90s", Terminal.wait),
    "help": Command("", "this list", Terminal.help),
    "quit": Command("", "leave the simulator", Terminal.quit),
}

_EVENTS: Mapping[str, str] = {
    "queued": "in the queue: skills {skills}, priority {priority}",
    "agent_joined": "{agent} has joined; /agent again ends it",
    "agent_left": "the person has left",
    "queue_failed": "the queue gives up: {reason}",
    "channel_invited": "invited to {channel}; /join follows the invitation",
    "channel_moved": "from {from} to {to} ({mode})",
    "channel_failed": "{channel} did not work: {reason}",
    "transferring": "calling {to}; /transfer says how it goes",
    "transfer_ended": "the transfer: {outcome}",
    "message_taken": "a message was left",
    "calendar_missing": "the settings have no calendar {calendar}; taken as open",
    "fetch_failed": "{system} was of no use: {reason}",
    "expression_failed": "{expression} cannot be worked out: {reason}",
    "stuck": "the flow goes in circles at {node}",
}
"""What the engine decides that a designer should see without asking, and how it is told."""


class _Blank(dict[str, Any]):
    """The body of a note; what it lacks is blank."""

    def __missing__(self, key: str) -> str:
        return ""


def _sentence(note: Note) -> str:
    details = ", ".join(
        f"{key} {json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in note.body.items()
    )
    return f"{note.kind.replace('_', ' ')}: {details}" if details else note.kind.replace("_", " ")


def _answer(text: str) -> Answer:
    if text.isdecimal() and len(text) == 3:
        return Answer(int(text))
    if text in ("fail", "timeout"):
        return Answer(0, None, "timeout")
    try:
        return Answer(200, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise CannotHappen(f"neither JSON, nor a status, nor `fail`: {error}") from None
