"""A page's line of messages: in order, bounded, and never a reason for anybody else to wait."""

from __future__ import annotations

import asyncio

import pytest

from cti import protocol
from cti.screens import Screen, Stream

PONG = protocol.encode(protocol.Pong(), 0)


async def test_news_are_numbered_and_answers_are_not() -> None:
    screen = Screen("ann")
    written: list[str] = []

    async def write(text: str) -> None:
        written.append(text)

    writing = asyncio.create_task(screen.write_to(write))
    stream = Stream()
    screen.put(stream.frame(protocol.NoteKept(conversation="c1")))
    screen.answer(protocol.Pong())
    assert await screen.show(stream.frame(protocol.Wrapped(conversation="c1"))) is True
    screen.close()
    await writing
    messages = [protocol.parse_server(text) for text in written]
    assert [(message.n, message.type) for message in messages] == [
        (1, "noted"),
        (0, "pong"),
        (2, "wrapped"),
    ]


def test_a_screen_that_was_away_is_told_what_it_missed() -> None:
    stream = Stream()
    frames = [stream.frame(protocol.Wrapped(conversation=f"c{n}")) for n in range(5)]
    assert stream.since(stream.id, 3) == frames[3:]
    assert stream.since(stream.id, 5) == []
    assert stream.since(stream.id, 6) is None, "it cannot have seen what was never sent"
    assert stream.since("of another run", 3) is None


def test_news_are_not_kept_for_ever() -> None:
    stream = Stream()
    for _ in range(5_000):
        stream.frame(protocol.NoteKept(conversation="c" * 64))
    assert stream.since(stream.id, 0) is None
    assert len(stream.since(stream.id, 4_990) or ()) == 10


async def test_closing_tells_whoever_waits() -> None:
    screen = Screen("ann")
    showing = asyncio.create_task(screen.show(PONG))
    await asyncio.sleep(0)
    screen.close()
    screen.close()
    assert await showing is False
    assert await screen.show(PONG) is False


async def test_a_slow_socket_has_a_deadline() -> None:
    screen = Screen("ann", write_seconds=0.01)

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    showing = asyncio.create_task(screen.show(PONG))
    with pytest.raises(TimeoutError):
        await screen.write_to(never)
    assert await showing is False
    assert screen.closed


async def test_a_full_line_drops_the_page() -> None:
    screen = Screen("ann")
    first = asyncio.create_task(screen.show(PONG))
    await asyncio.sleep(0)
    for _ in range(300):
        screen.put(PONG)
    assert screen.closed
    assert await first is False
    await screen.write_to(_swallow)


async def _swallow(_: str) -> None:
    return None
