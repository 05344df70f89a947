"""A page's line of messages: in order, bounded, and never a reason for anybody else to wait."""

from __future__ import annotations

import asyncio

import pytest

from cti import protocol
from cti.screens import Screen


async def test_messages_are_numbered_in_their_order() -> None:
    screen = Screen("ann")
    written: list[str] = []

    async def write(text: str) -> None:
        written.append(text)

    writing = asyncio.create_task(screen.write_to(write))
    screen.send(protocol.Pong())
    assert await screen.show(protocol.Wrapped(conversation="c1")) is True
    screen.close()
    await writing
    messages = [protocol.parse_server(text) for text in written]
    assert [(message.n, message.type) for message in messages] == [(1, "pong"), (2, "wrapped")]


async def test_closing_tells_whoever_waits() -> None:
    screen = Screen("ann")
    showing = asyncio.create_task(screen.show(protocol.Pong()))
    await asyncio.sleep(0)
    screen.close()
    screen.close()
    assert await showing is False
    assert await screen.show(protocol.Pong()) is False


async def test_a_slow_socket_has_a_deadline() -> None:
    screen = Screen("ann", write_seconds=0.01)

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    showing = asyncio.create_task(screen.show(protocol.Pong()))
    with pytest.raises(TimeoutError):
        await screen.write_to(never)
    assert await showing is False
    assert screen.closed


async def test_a_full_line_drops_the_page() -> None:
    screen = Screen("ann")
    first = asyncio.create_task(screen.show(protocol.Pong()))
    await asyncio.sleep(0)
    for _ in range(100):
        screen.send(protocol.Pong())
    assert screen.closed
    assert await first is False
    await screen.write_to(_swallow)


async def _swallow(_: str) -> None:
    return None
