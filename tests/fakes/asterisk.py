"""A manager interface that a test can make slow, deaf, rude or dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

Reply = Callable[[dict[str, str]], str | None]


def accept(action: dict[str, str]) -> str | None:
    """What Asterisk answers to a good client that has no channels."""
    name = action["Action"]
    if name == "Login":
        return message(action, Response="Success", Message="Authentication accepted")
    if name == "Ping":
        return message(action, Response="Success", Ping="Pong")
    if name == "CoreShowChannels":
        return show_channels(action)
    return message(action, Response="Success", Message=f"{name} done")


def message(action: dict[str, str] | None, **fields: str) -> str:
    """One message, in answer to an action unless that is None."""
    lines = [f"{key.replace('_', '-')}: {value}" for key, value in fields.items()]
    if action is not None:
        lines.insert(1, f"ActionID: {action['ActionID']}")
    return "\r\n".join(lines) + "\r\n\r\n"


def event(name: str, **fields: str) -> str:
    """One event."""
    return message(None, Event=name, **fields)


def channel_fields(unique_id: str, name: str = "PJSIP/1001-1") -> dict[str, str]:
    """How Asterisk describes a channel."""
    return {
        "Uniqueid": unique_id,
        "Channel": name,
        "ChannelStateDesc": "Up",
        "CallerIDNum": "123",
        "Linkedid": unique_id,
        "Context": "hotline",
        "Exten": "100",
    }


def show_channels(action: dict[str, str], *unique_ids: str, between: str = "") -> str:
    """The answer to CoreShowChannels; `between` is sent before the list's end."""
    return (
        message(action, Response="Success", EventList="start", Message="Channels will follow")
        + "".join(
            message(action, Event="CoreShowChannel", **channel_fields(unique_id))
            for unique_id in unique_ids
        )
        + between
        + message(action, Event="CoreShowChannelsComplete", EventList="Complete")
    )


class FakeAmi:
    """Listens on a free port of the loopback; `reply` answers each action, None is silence."""

    def __init__(self, reply: Reply = accept) -> None:
        self.reply = reply
        self.actions: list[dict[str, str]] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> FakeAmi:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()

    def send(self, *pieces: str | bytes) -> None:
        """Send to the newest connection."""
        for piece in pieces:
            self.connections[-1].write(piece.encode() if isinstance(piece, str) else piece)

    async def seen(self, name: str, count: int = 1) -> dict[str, str]:
        """Wait until an action has come so many times; the last of them."""
        async with asyncio.timeout(5):
            while True:
                found = [action for action in self.actions if action["Action"] == name]
                if len(found) >= count:
                    return found[-1]
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        writer.write(b"Asterisk Call Manager/9.0.0\r\n")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                text = (await reader.readuntil(b"\r\n\r\n")).decode()
                pairs = (line.split(": ", 1) for line in text.splitlines() if line)
                action = dict(pairs)
                self.actions.append(action)
                self._changed.set()
                answer = self.reply(action)
                if answer is not None:
                    writer.write(answer.encode())
