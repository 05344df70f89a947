"""What servers tell each other of a thread arrives as it was, and agents see what concerns them."""

from __future__ import annotations

import asyncio
import json

import pytest

from cti import protocol, threads
from cti.service import Desk
from ivr.bus import MemoryBus
from ivr.model import Text
from ivr.ports import ReadUpTo, TextNews, Typing, Wrote
from tests.unit.cti.conftest import World, view
from tests.virtual import EPOCH

TEXT = Text(
    "c1",
    "f1",
    "flow",
    "Which?",
    EPOCH,
    number=3,
    status="sent",
    choices=(("1", "bill"), ("", "账单")),
    turn=2,
)
FILE = {"name": "a.pdf", "type": "application/pdf", "bytes": 7, "url": "/api/files/1"}
NEWS: list[TextNews] = [
    Wrote(TEXT),
    Wrote(Text("c1", "m1", "customer", "<b>", EPOCH, number=4, file=FILE)),
    Typing("customer", True),
    Typing("agent", False, "Ann"),
    ReadUpTo("agent", 4, "m1"),
    ReadUpTo("customer", 3, "f1"),
]


@pytest.mark.parametrize("news", NEWS)
def test_news_survive_the_bus(news: TextNews) -> None:
    assert threads.from_json(json.loads(json.dumps(threads.to_json(news)))) == news


def test_agents_are_not_told_what_they_have_done_themselves() -> None:
    told = [threads.for_agents("c1", news) for news in (Typing("agent", True), NEWS[4])]
    assert told == [None, None]
    assert threads.for_agents("c1", NEWS[2]) == protocol.CustomerTyping(conversation="c1", on=True)


def test_a_question_without_words_shows_its_choices() -> None:
    asked = Text("c1", "f1", "flow", "", EPOCH, choices=(("1", "bill"), ("2", "visit")))
    assert threads.message(asked).text == "bill · visit"


async def test_news_reach_the_customers_connections_at_other_servers(world: World) -> None:
    class Shown:
        def __init__(self) -> None:
            self.news: list[TextNews] = []

        def show(self, conversation_id: str, news: TextNews) -> None:
            self.news.append(news)

    bus, shown = MemoryBus(), {"s1": Shown(), "s2": Shown()}
    desks = [
        Desk(
            world.store,
            lambda server: world.calls,
            world.reports,
            view,
            world.clock,
            world.settings,
            bus,
            server=server,
            texts=texts,  # type: ignore[arg-type]
        )
        for server, texts in shown.items()
    ]
    for news in NEWS:
        await desks[0].wrote("c1", news)
    await asyncio.sleep(0)
    assert shown["s2"].news == NEWS
    assert shown["s1"].news == [], "who told it has shown it already"
    for desk in desks:
        await desk.close()
