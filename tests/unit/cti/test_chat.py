"""A customer's chat from the first text to the last: flow, queue, people and back, over sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import websockets

from cti import protocol
from cti.chatclient import ChatClient
from ivr.channels import chatframes as frames
from ivr.config import ChatSettings
from ivr.errors import HotlineError
from tests.unit.cti.chatting import SECONDS, asked, left_for, screen, serving, staff


async def test_from_the_flow_to_two_agents_and_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann", "bob")
        async with ChatClient(server.url) as customer, screen(server, "ann") as ann:
            await customer.begin("en")
            await asked(customer, "What is it about?")
            question = customer.thread[1]
            assert [choice.label for choice in question.choices] == ["the bill", "a person"]
            await customer.choose("the bill")
            await asked(customer, "Your account?")
            await customer.write("1234")
            await asked(customer, "Your PIN?")
            await customer.write("9876")

            offer = await ann.card("offered")
            assert (offer.kind, offer.channel) == ("chat", "chat")
            assert [message.text for message in offer.messages] == [
                "What is it about?",
                "the bill",
                "Your account?",
                "1234",
                "Your PIN?",
                "••••",
            ]
            assert "9876" not in offer.model_dump_json()
            chat = offer.conversation
            await ann.client.accept(chat)
            assert "say" in (await ann.card("active")).can
            await customer.until(lambda: customer.state == "person")

            # Both write, and neither loses or doubles anything.
            await customer.writes(True)
            assert (await ann.next(protocol.CustomerTyping)).on
            await customer.write("a person")
            asking = await ann.read("a person")
            await ann.client.send(protocol.Typing(conversation=chat, on=True))
            await customer.until(lambda: customer.typing)
            for _ in range(2):
                assert (await ann.say(chat, "Good morning!", "m1")).result == "done"
            await asked(customer, "Good morning!")
            assert customer.texts.count("Good morning!") == 1
            assert customer.thread[customer.last].name == "Ann"
            assert (await ann.next(protocol.NewMessage)).message.status == "sent"
            assert (await ann.next(protocol.NewMessage)).message.status == "delivered"
            await customer.read()
            assert (await ann.next(protocol.CustomerRead)).up_to == "m1"
            await ann.client.send(protocol.Read(conversation=chat, up_to=asking.id))
            await customer.until(lambda: customer.read_up_to > 0)

            async with screen(server, "bob") as bob:
                to = protocol.Target(kind="agent", value="bob")
                passed = protocol.TransferTo(conversation=chat, id="t1", to=to, note="Be nice.")
                assert (await ann.order(passed)).result == "done"
                offer = await bob.card("offered")
                assert (offer.from_agent, offer.context) == ("ann", "Be nice.")
                assert offer.messages[-1].text == "Good morning!"
                assert offer.messages[-1].status == "read"
                await bob.client.accept(chat)
                await bob.card("active")
                assert (await ann.say(chat, "Still here?", "m2")).result == "refused"
                assert (await bob.say(chat, "I am Bob.", "m1")).result == "done"
                await asked(customer, "I am Bob.")
                back = protocol.GiveBack(conversation=chat, id="g1")
                assert (await bob.order(back)).result == "done"
                await customer.until(lambda: customer.state == "flow")
                await asked(customer, "Back with the machine.\nWhat is it about?")
                await customer.choose("the bill")
                await asked(customer, "Your account?")
            kinds = [entry.kind for entry in await server.store.timeline(chat)]
            assert kinds.count("wrote") == 2
            assert sorted(customer.thread) == list(range(1, len(customer.thread) + 1))


async def test_a_chat_is_taken_over_in_the_middle_of_a_question(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann", "bob")
        async with (
            ChatClient(server.url) as customer,
            screen(server, "ann", ready=False) as ann,
            screen(server, "bob", ready=False) as bob,
        ):
            await customer.begin()
            await customer.choose("the bill")
            await asked(customer, "Your account?")
            chat = customer.conversation
            take = protocol.Take(conversation=chat, id="k1")
            taken = await asyncio.gather(ann.order(take), bob.order(take))
            assert sorted(outcome.result for outcome in taken) == ["done", "refused"]
            winner = ann if taken[0].result == "done" else bob
            await customer.until(lambda: customer.state == "person")
            await customer.write("1234")
            await winner.read("1234")
            assert (await winner.say(chat, "Let me do that.", "m1")).result == "done"
            await asked(customer, "Let me do that.")
            assert (
                await winner.order(protocol.GiveBack(conversation=chat, id="g"))
            ).result == "done"
            await asked(customer, "Your account?")
            assert customer.texts[-4:] == [
                "Your account?",
                "1234",
                "Let me do that.",
                "Your account?",
            ]
            await customer.write("1234")
            await asked(customer, "Your PIN?")


async def test_offline_and_back_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann")
        async with screen(server, "ann") as ann:
            customer = ChatClient(server.url)
            await customer.connect()
            await customer.begin()
            await customer.choose("a person")
            chat = (await ann.card("offered")).conversation
            await ann.client.accept(chat)
            await ann.card("active")
            await customer.until(lambda: customer.state == "person")
            await customer.cut()
            for n in range(5):
                assert (await ann.say(chat, f"text {n}", f"a{n}")).result == "done"
            # Written into the tunnel; and one that arrived, but whose answer did not.
            lost = frames.Write(id="lost", text="are you there?")
            customer._unsent["lost"] = lost
            await customer.connect()
            await customer.accepted()
            await customer.send(lost)
            await customer.until(lambda: "text 4" in customer.texts)
            await ann.read("are you there?")
            assert customer.texts.count("are you there?") == 1
            assert [text for text in customer.texts if text.startswith("text")] == [
                f"text {n}" for n in range(5)
            ]
            thread = await server.store.texts(chat)
            assert [text.number for text in thread] == list(range(1, len(thread) + 1))
            await customer.close()


async def test_a_restart_of_the_server_costs_a_chat_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        customer = ChatClient(server.url)
        await customer.connect()
        await customer.begin("zh")
        await customer.choose("账单")
        await asked(customer, "账号？")
        await customer.close()
    async with serving(tmp_path) as server:
        again = ChatClient(server.url, customer.token)
        await again.connect()
        assert (again.conversation, again.state) == (customer.conversation, "flow")
        assert again.texts == customer.texts, "and the question is not asked a second time"
        await again.write("1234")
        await asked(again, "密码？")
        await again.close()


async def test_a_talk_with_an_agent_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await staff(server, "ann")
        async with ChatClient(server.url) as customer, screen(server, "ann") as ann:
            await customer.begin()
            await customer.choose("a person")
            chat = (await ann.card("offered")).conversation
            await ann.client.accept(chat)
            await customer.until(lambda: customer.state == "person")
    async with serving(tmp_path) as server, screen(server, "ann") as ann:
        offer = await ann.card("offered")
        assert offer.conversation == chat
        await ann.client.accept(chat)
        await ann.card("active")
        assert (await ann.say(chat, "Here again.", "m1")).result == "done"
        again = ChatClient(server.url, customer.token)
        await again.connect()
        assert again.state == "person" and again.texts[-1] == "Here again."
        assert (await ann.order(protocol.GiveBack(conversation=chat, id="g"))).result == "done"
        await asked(again, "Back with the machine.\nWhat is it about?")
        await again.close()


async def test_two_pages_of_one_customer_are_one_conversation(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as first:
        await first.begin()
        async with ChatClient(server.url, first.token) as second:
            await second.begin()
            assert second.conversation == first.conversation
            await second.write("the bill")
            await asked(first, "Your account?")
            await asked(second, "Your account?")
            assert first.texts == second.texts


async def test_the_customer_ends_it_and_begins_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as customer:
        await customer.begin()
        before = customer.conversation
        await customer.end()
        await customer.until(lambda: customer.state == "ended")
        await customer.write("hello?")
        await customer.until(lambda: bool(customer.errors))
        assert customer.errors[-1].code == "over"
        await customer.begin()
        assert customer.conversation != before
        stored = await server.store.conversation(before)
        assert stored is not None and stored.outcome == "hung_up"


async def test_nobody_at_work_and_the_flow_goes_on_to_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as customer:
        await customer.begin()
        await customer.choose("a person")
        await customer.until(lambda: customer.state == "ended")
        assert customer.texts[-1] == "Nobody is here.\nGoodbye."
        assert await left_for(server, customer.conversation) == ["completed"]


async def test_a_customer_who_stays_silent_has_left(tmp_path: Path) -> None:
    async with serving(tmp_path, silence=0.2) as server, ChatClient(server.url) as customer:
        await customer.begin()
        await customer.until(lambda: customer.state == "ended")
        assert await left_for(server, customer.conversation) == ["silence"]


async def test_a_tap_that_is_too_late_answers_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as customer:
        await customer.begin()
        await customer.choose("the bill")
        await asked(customer, "Your account?")
        await customer.choose("a person")
        await customer.accepted()
        assert customer.texts[-1] == "a person"
        assert customer.state == "flow"


# --- who is let in, and how much ------------------------------------------------------------------


async def test_a_stranger_sees_nothing_of_a_thread(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as customer:
        await customer.begin()
        guessed = ChatClient(server.url, "A" * 43)
        guessed.conversation = customer.conversation
        await guessed.connect()
        assert guessed.conversation == "" and guessed.thread == {}
        assert guessed.token not in ("A" * 43, customer.token)
        await guessed.write("let me in")
        await guessed.until(lambda: bool(guessed.errors))
        assert guessed.errors[-1].code == "over"
        await guessed.close()


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("https://www.example.com", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
async def test_only_named_websites_show_the_chat(
    tmp_path: Path, origin: str, welcome: bool
) -> None:
    chat = ChatSettings(origins=("https://www.example.com",))
    async with serving(tmp_path, chat=chat) as server:
        url = "ws" + server.url.removeprefix("http") + "/api/chat"
        connection = websockets.connect(url, additional_headers={"Origin": origin}, proxy=None)
        if welcome:
            await (await connection).close()
        else:
            with pytest.raises(websockets.InvalidStatus):
                await connection


HOSTILE: list[Any] = [
    "",
    "null",
    "[]",
    "{",
    '{"type": "text"}',
    '{"type": "nothing"}',
    '{"type": "open", "v": 2}',
    '{"type": "open", "token": "<script>"}',
    '{"type": "open", "after": -1}',
    '{"type": "text", "id": "a b", "text": "x"}',
    json.dumps({"type": "text", "id": "x", "text": "\u0000\u0007"}),
    json.dumps({"type": "text", "id": "x", "text": "x" * 4001}),
    '{"type": "text", "id": "x", "text": "x", "who": "agent"}',
    '{"type": "read", "up_to": 99999999999999999999}',
    b"\xff\xfe",
    "{" * 3000,
]


async def test_what_cannot_be_read_is_told_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        url = "ws" + server.url.removeprefix("http") + "/api/chat"
        for hostile in HOSTILE:
            async with websockets.connect(url, proxy=None) as socket:
                await socket.send(hostile)
                async with asyncio.timeout(SECONDS):
                    answer = frames.parse_server(await socket.recv())
                assert isinstance(answer, frames.Error) and answer.code == "bad_message"
                assert "\n" not in answer.text and len(answer.text) < 300
                assert "<script>" not in answer.text
        assert await server.store.live_conversations() == []


async def test_who_writes_too_fast_is_read_more_slowly_and_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, ChatClient(server.url) as customer:
        await customer.begin()
        began = asyncio.get_running_loop().time()
        for _ in range(60):
            await customer.send(frames.Ping())
        await customer.write("the bill")
        await asked(customer, "Your account?")
        assert asyncio.get_running_loop().time() - began > 1


async def test_conversations_of_one_address_and_pages_in_all_are_limited(tmp_path: Path) -> None:
    chat = ChatSettings(begun_at_once=1, connections=2)
    async with (
        serving(tmp_path, chat=chat) as server,
        ChatClient(server.url) as first,
        ChatClient(server.url) as second,
    ):
        await first.begin()
        await second.send(frames.Begin())
        await second.until(lambda: bool(second.errors))
        assert second.errors[-1].code == "too_fast"
        with pytest.raises(HotlineError):
            await ChatClient(server.url).connect()
