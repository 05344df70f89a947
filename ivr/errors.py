"""Every way in which the hotline can fail, as one tree, so that an edge can catch what it can mend.

HotlineError              anything this project raises on purpose
├── SettingsError         the operator's settings are wrong; says which key
├── FlowError             a designer's flow is wrong; carries file, line, column and code
├── WireError             bytes that do not speak the protocol
│   ├── LocalProtocolError    we were about to send nonsense: our bug
│   └── RemoteProtocolError   the peer sent nonsense: drop the peer
├── SpeechError           a recogniser or synthesiser cannot do its work now
├── TelephonyError        Asterisk refused, is away, or answered something unusable
│   └── CallGone          the caller (or the channel) is no longer there: stop, quietly
├── DeliveryError         a message was not taken by its channel; says whether to try again
├── StoreError            the database cannot be reached or refuses
├── Conflict              somebody else was first; read again and decide anew
└── NotAllowed            the peer is known but may not do this
"""

from __future__ import annotations


class HotlineError(Exception):
    """The root: its text is one line, for the person who can mend it."""


class SettingsError(HotlineError):
    """A setting is missing or wrong. Mended by the operator."""


class FlowError(HotlineError):
    """One finding that stops a flow from loading. Mended by the flow's designer.

    `line` and `column` count from 1; 0 means that the whole file is meant, no `file` that none is.
    """

    def __init__(self, code: str, message: str, *, file: str = "", line: int = 0, column: int = 0):
        place = f"{file}:{line}:{column}: " if file else ""
        super().__init__(f"{place}{code} {message}")
        self.code = code
        self.message = message
        self.file = file
        self.line = line
        self.column = column


class WireError(HotlineError):
    """Bytes that are not the protocol."""


class LocalProtocolError(WireError):
    """We were asked to send what the protocol cannot carry. Mended in our code."""


class RemoteProtocolError(WireError):
    """The peer sent what the protocol does not allow. The connection is not worth keeping."""


class SpeechError(HotlineError):
    """A recogniser or synthesiser failed; the call goes on with the keypad or the next sentence."""


class TelephonyError(HotlineError):
    """Asterisk refused an action, is away, or did not answer in time."""


class CallGone(TelephonyError):
    """The call has ended; whoever still waits for it should stop without complaint."""


class DeliveryError(HotlineError):
    """A message was refused by its channel."""

    def __init__(self, code: str, message: str, *, retryable: bool):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retryable = retryable


class StoreError(HotlineError):
    """The database cannot be opened, reached or written. Mended by the operator."""


class Conflict(HotlineError):
    """The thing has changed since it was read."""


class NotAllowed(HotlineError):
    """Authenticated or not, the peer may not do this."""
