"""Everybody but the flow, for the engine's fuzzer: customers, people and systems, sane or not.

A *move* is one whole number, out of which `World.event` reads decision by decision what happens.
What answers a question for a secret bears one of `MARKS`, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time

from hypothesis import strategies as st

from ivr.flow.events import (
    AgentJoined,
    AgentLeft,
    ChannelFailed,
    ChannelLive,
    DigitsPressed,
    Event,
    Expect,
    FetchAnswered,
    HungUp,
    QueueFailed,
    QueueMoved,
    Recorded,
    Resumed,
    SpeechHeard,
    Started,
    TextReceived,
    TimedOut,
    TimerFired,
    TransferEnded,
)
from ivr.flow.facts import Calendar, Facts
from ivr.flow.schema import Bundle, ConfirmNode, MenuNode, OfferNode, RecordNode
from ivr.flow.state import State
from tests.unit.flow.random_flows import Pick

MARKS = ("7391", "7,391", "seven three nine one", "七三九一", "1987", "4:37", "04点37")
"""What the secrets of `_SECRETS` look like wherever they turn up: written, said or formatted."""

_SECRETS = {
    "digits": "73917391739173917391",
    "number": "7391",
    "money": "7391",
    "date": "1987-03-14",
    "time": "04:37",
    "phone": "+442079467391",
    "text": "it is 7391",
}

_AFTER_SECRETS = ("", "", " please", " agent", " english 1234", "8 agent", "8 text me")

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
FACTS = Facts({"office": Calendar(UTC, {4: ((time(9), time(17)),)})})

MOVES = st.lists(st.integers(0, 2**40), min_size=3, max_size=18)
"""A caller and everybody else: each move is one number, which `World.event` reads."""

_TEXTS = (
    *("yes", "no", "1234", "go", "my bill", "english", "agent", "repeat", "start over", "go back"),
    *("text me", "发短信", "人工", "返回", "重来", "是", "不对", "不对一二三四", "账单", "中文"),
    *("no it is 2 5 2 5", "no, english", "one two three four", "twelve dollars", "tomorrow"),
    *("3pm", "明天下午三点", "+44 20 7946 0123", "tomorrow at 3pm 12 english", "red", "第3", "1"),
    *("", " ", "\0", "\ud800", "{text} {{", "<b>", "9" * 400, "x" * 5_000, "啊" * 300, "1e999"),
)
_GOOD = {
    "digits": ("1234", "one two three four", "一二三四"),
    "number": ("12", "twelve", "十二"),
    "money": ("12.50", "twelve dollars", "十二块五"),
    "date": ("tomorrow", "2026-12-24", "明天"),
    "time": ("3pm", "15:00", "下午三点"),
    "phone": ("+44 20 7946 0123",),
    "yes_no": ("yes", "no", "不对", "对"),
    "choice": ("english", "中文", "red", "第3"),
    "text": ("hello", "你好"),
}
"""What a willing customer says, by slot type."""

_COMMANDED = ("agent", "go back", "repeat", "start over", "text me", "人工", "返回", "加微信")
_KEYS = ("1", "2", "1234", "0", "", "#", "*9", "20261121", "1500", "D", "5" * 80, "12ab")
_SURE = (0.9, 1.0, 0.5, 0.2, 0.0, -1.0, float("nan"), float("inf"))
_ANSWERS = (
    {"name": "Ann", "overdue": 3},
    {"name": ["Ann", {"b": 1}], "overdue": "{text}"},
    None,
    "zh",
    [1, None],
    float("nan"),
    10**400,
    {"x": "y" * 70_000},
    True,
)
_CHANNELS = ("voice", "sms", "chat", "", "fax")


@dataclass
class World:
    """Everybody but the flow: makes events, likely ones and impossible ones, out of numbers."""

    bundle: Bundle
    expected: Expect | None = None
    given: list[str] = field(default_factory=list)
    last: Event | None = None

    def event(self, move: int, state: State) -> Event:
        """What the number says that happens now. Half of it is what the flow waits for."""
        # Small numbers are drawn often: they are spread, so that their later decisions differ too.
        rest = move * 0x9E3779B97F4A7C15 % 2**64

        def upto(most: int) -> int:
            nonlocal rest
            rest, chosen = divmod(rest, most + 1)
            return chosen

        pick = Pick(upto)
        if pick(0, 1) == 0:
            event = self._awaited(pick, state)
        elif self.last is not None and pick.sometimes(8):
            event = self.last
        else:
            event = self._any(pick, state)
        # What answered a secret question must not be said once more to another.
        self.last = event if getattr(event, "turn", 0) is not None else None
        return event

    def secret(self, state: State) -> str:
        """What may be answered now that must stay secret; "" if nothing."""
        flow, node = self.bundle.flows[state.flow], None
        name = ""
        if state.waiting.kind == "answer" and state.question.secret:
            name = state.question.slot
        elif state.waiting.kind == "record":
            node = flow.nodes[state.node]
            name = node.slot if isinstance(node, RecordNode) else ""
        slot = flow.slots.get(name)
        if slot is None or not slot.secret or slot.type not in _SECRETS:
            return ""
        return _SECRETS[slot.type][: slot.maximum or None]

    def way_on(self, state: State) -> Event:
        """What is bound to happen some day, and must get the customer out of where they are."""
        waiting = state.waiting
        place = state.place.id if state.place else ""
        return {
            "answer": TimedOut(state.turn),
            "redial": TimedOut(state.turn),
            "invite": ChannelFailed(waiting.id, waiting.channel, "timeout"),
            "fetch": FetchAnswered(waiting.id, error="timeout"),
            "queue": QueueFailed(place, "timeout"),
            "person": AgentLeft(waiting.id),
            "transfer": TransferEnded(waiting.id, "no_answer"),
            "record": Recorded(waiting.id, ""),
        }[waiting.kind]

    def _awaited(self, pick: Pick, state: State) -> Event:
        waiting = state.waiting
        match waiting.kind:
            case "answer":
                return self._answer(pick, state)
            case "fetch":
                status = pick(200, 200, 404)
                return FetchAnswered(waiting.id, status, pick.of(_ANSWERS))
            case "queue" | "person":
                place = state.place.id if state.place else ""
                if state.taken is not None:
                    interrupted = state.taken.waiting
                    return pick(
                        AgentLeft(waiting.id, "ann"),
                        AgentLeft(waiting.id, "ann"),
                        AgentJoined(place, "bob"),
                        FetchAnswered(interrupted.id, 200, pick.of(_ANSWERS)),
                        TextReceived(pick.of(_TEXTS)),
                    )
                return pick(
                    AgentJoined(place, "ann"),
                    QueueMoved(place, 2, pick(60.0, -1.0, float("nan")), 5.0),
                    AgentLeft(place, "ann"),
                    QueueFailed(place, "nobody"),
                    TimerFired(f"{place}-offer"),
                )
            case "invite":
                return pick(
                    ChannelLive(waiting.id, waiting.channel, "someone"),
                    ChannelFailed(waiting.id, waiting.channel, "undelivered"),
                    TimedOut(state.turn),
                    TextReceived(pick.of(_TEXTS)),
                )
            case "redial":
                yes = pick(
                    DigitsPressed("1", state.turn), SpeechHeard("yes", 0.9), TextReceived("对")
                )
                return pick(yes, yes, self._answer(pick, state))
            case "transfer":
                return TransferEnded(waiting.id, pick("answered", "busy", "no_answer", "refused"))
            case "record":
                message = self.secret(state) or "message-1"
                return Recorded(waiting.id, pick(message, message, ""), pick(2.0, -1.0))
            case _:
                return Resumed(state.channel)

    def _answer(self, pick: Pick, state: State) -> Event:
        """An answer to the question, as a customer would give it who is willing."""
        turn = pick(state.turn, None)
        if pick.sometimes(10):
            return SpeechHeard(pick.of(_COMMANDED), pick(0.9, 0.5), turn=turn)
        if (secret := self.secret(state)) and not pick.sometimes(6):
            said = secret + pick.of(_AFTER_SECRETS)
            return pick(
                DigitsPressed("".join(filter(str.isdigit, secret)), turn),
                TextReceived(said, turn),
                SpeechHeard(said, pick(0.9, 0.5), turn=turn),
            )
        node = self.bundle.flows[state.flow].nodes[state.node]
        if isinstance(node, MenuNode) and state.question.pending is None and not pick.sometimes(4):
            choice = pick.of(node.choices)
            said = next((pick.of(way) for way in choice.say.values() if way), choice.key)
            if choice.key and pick(0, 1):
                return DigitsPressed(choice.key, turn)
            return pick(SpeechHeard(said, pick(0.9, 0.5), turn=turn), TextReceived(said, turn))
        keypad = self.expected.keypad if self.expected else None
        if keypad is not None and keypad.options and pick(0, 1):
            return DigitsPressed(pick.of(keypad.options), turn)
        text = pick.of(_TEXTS)
        slot = self.bundle.flows[state.flow].slots.get(state.question.slot)
        if slot is not None and state.question.pending is None and not pick.sometimes(4):
            text = pick.of(_GOOD[slot.type])
        elif isinstance(node, ConfirmNode | OfferNode) or state.question.pending is not None:
            text = pick("yes", "no", "对", text)
        return pick(
            SpeechHeard(text, pick(0.9, 0.5), turn=turn),
            TextReceived(text, turn),
            DigitsPressed(pick.of(_KEYS), turn),
            TimedOut(turn),
        )

    def _any(self, pick: Pick, state: State) -> Event:
        """Anything at all, whether or not it fits."""
        place = state.place.id if state.place else ""
        turn = pick(state.turn, None, state.turn - 1, state.turn + 1, -5)
        id_ = pick(
            state.waiting.id, place, pick.of(self.given) if self.given else "", "fetch-1", "", "?"
        )
        text, sure, number = pick.of(_TEXTS), pick.of(_SURE), pick(0.0, -3.0, 1e300, float("nan"))
        channel = pick.of((*_CHANNELS, state.channel))
        kind = pick.of(_ANYTHING)
        return kind(turn, id_, text, sure, number, channel, pick)


_ANYTHING: tuple[Callable[..., Event], ...] = (
    lambda turn, id_, text, sure, number, channel, pick: SpeechHeard(
        text, sure, ((pick.of(_TEXTS), 0.8),) * pick(0, 1, 12), turn
    ),
    lambda turn, id_, text, sure, number, channel, pick: TextReceived(text, turn),
    lambda turn, id_, text, sure, number, channel, pick: DigitsPressed(pick.of(_KEYS), turn),
    lambda turn, id_, text, sure, number, channel, pick: TimedOut(turn),
    lambda turn, id_, text, sure, number, channel, pick: FetchAnswered(
        id_, pick(200, 0, 500, -1), pick.of(_ANSWERS), pick("", "timeout", "x" * 500)
    ),
    lambda turn, id_, text, sure, number, channel, pick: QueueMoved(
        id_, pick(3, -5, 10**30), number, pick(1.0, number)
    ),
    lambda turn, id_, text, sure, number, channel, pick: AgentJoined(id_, text[:50]),
    lambda turn, id_, text, sure, number, channel, pick: AgentJoined("take-1", "bob"),
    lambda turn, id_, text, sure, number, channel, pick: AgentLeft(id_, "ann"),
    lambda turn, id_, text, sure, number, channel, pick: QueueFailed(id_, pick("full", "", text)),
    lambda turn, id_, text, sure, number, channel, pick: ChannelLive(id_, channel, "someone"),
    lambda turn, id_, text, sure, number, channel, pick: ChannelFailed(id_, channel, "gone"),
    lambda turn, id_, text, sure, number, channel, pick: TransferEnded(id_, pick("answered", "?")),
    lambda turn, id_, text, sure, number, channel, pick: Recorded(id_, "message-2", number),
    lambda turn, id_, text, sure, number, channel, pick: TimerFired(
        pick(f"{id_}-offer", id_, "queue-1-offer")
    ),
    lambda turn, id_, text, sure, number, channel, pick: Resumed(channel),
    lambda turn, id_, text, sure, number, channel, pick: Started(channel, text[:20]),
    lambda turn, id_, text, sure, number, channel, pick: HungUp(channel, "normal"),
)
"""Every kind of event, made of whatever was drawn."""
