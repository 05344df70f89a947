"""Cuts pressed keys into answers, so that keys pressed ahead answer the questions to come.

The media leg and the test runner keep a buffer of keys; whenever it grows, and whenever a new
question is asked, `read` says whether its beginning is an answer already. When the caller pauses
between keys (`GAP` seconds), `flush` takes what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ivr.flow.events import Keypad

GAP = 2.5
"""Seconds without a further key after which an unfinished entry is taken as it stands."""

KEYS = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class KeysRead:
    """What a buffer of keys amounts to: an answer's `digits`, and the `rest` for the next question.

    `complete`: report the digits. `partial`: wait for more keys or for the gap. `empty`: nothing
    was pressed.
    """

    status: Literal["complete", "partial", "empty"]
    digits: str = ""
    rest: str = ""


def read(keypad: Keypad, buffer: str) -> KeysRead:
    """Cut an answer off the buffer's beginning if one is complete there.

    An option is complete when no longer option begins with it. Free digits are complete at
    `maximum` or at the terminator. Keys that can begin no answer are cut too, one at a time: the
    engine calls them no-match.
    """
    if not buffer:
        return KeysRead("empty")
    if any(_longer(option, buffer) for option in keypad.options):
        return KeysRead("partial", buffer)
    options = [option for option in keypad.options if buffer.startswith(option)]
    if options:
        # A longer option was possible until the last key ruled it out.
        option = max(options, key=len)
        if not keypad.maximum or keypad.maximum <= len(option):
            return _complete(keypad, option, buffer[len(option) :])
    if not keypad.maximum:
        return _complete(keypad, buffer[:1], buffer[1:])
    end = buffer.find(keypad.terminator) if keypad.terminator else -1
    if 0 <= end <= keypad.maximum:
        return KeysRead("complete", buffer[:end], buffer[end + 1 :])
    if len(buffer) < keypad.maximum:
        return KeysRead("partial", buffer)
    return _complete(keypad, buffer[: keypad.maximum], buffer[keypad.maximum :])


def flush(keypad: Keypad, buffer: str) -> KeysRead:
    """Take what is there, because the caller has paused, even if it is too short."""
    now = read(keypad, buffer)
    if now.status != "partial":
        return now
    options = [option for option in keypad.options if buffer.startswith(option)]
    if options and not keypad.maximum:
        option = max(options, key=len)
        return KeysRead("complete", option, buffer[len(option) :])
    return KeysRead("complete", buffer)


def _longer(option: str, buffer: str) -> bool:
    return len(option) > len(buffer) and option.startswith(buffer)


def _complete(keypad: Keypad, digits: str, rest: str) -> KeysRead:
    """A terminator after the last digit, out of habit, belongs to the entry before it."""
    if keypad.maximum and keypad.terminator and rest.startswith(keypad.terminator):
        rest = rest[len(keypad.terminator) :]
    return KeysRead("complete", digits, rest)
