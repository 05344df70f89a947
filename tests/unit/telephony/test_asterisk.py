"""The manager link: what it must survive, and what it must never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ivr.errors import LocalProtocolError, TelephonyError
from ivr.observe import AMI_UP
from ivr.telephony.asterisk import Ami, AmiEvent, Pace
from tests.fakes.asterisk import FakeAmi, accept, channel_fields, event, message, show_channels

QUICK = Pace(deadline=0.2, ping=0.05, first_retry=0.01, longest_retry=0.02)
CALM = Pace(deadline=2, ping=60, first_retry=0.01, longest_retry=0.02)


@asynccontextmanager
async def link(server: FakeAmi, pace: Pace = CALM) -> AsyncIterator[Ami]:
    ami = Ami("127.0.0.1", server.port, "hotline", "secret", pace=pace)
    await ami.start()
    try:
        yield ami
    finally:
        await ami.stop()


class Heard:
    """Collects events, and lets a test wait for one."""

    def __init__(self, ami: Ami):
        self.events: list[AmiEvent] = []
        self._changed = asyncio.Event()
        ami.subscribe(self._take)

    def _take(self, event: AmiEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, wanted: Callable[[AmiEvent], bool]) -> AmiEvent:
        async with asyncio.timeout(5):
            while True:
                for event in self.events:
                    if wanted(event):
                        return event
                self._changed.clear()
                await self._changed.wait()


async def connected(ami: Ami, wanted: bool) -> None:
    async with asyncio.timeout(5):
        while ami.connected is not wanted:
            await asyncio.sleep(0)


async def test_logs_in_and_takes_stock_of_channels() -> None:
    def reply(action: dict[str, str]) -> str | None:
        if action["Action"] == "CoreShowChannels":
            return show_channels(action, "1.1", "1.2")
        return accept(action)

    async with FakeAmi(reply) as server, link(server) as ami:
        assert ami.connected
        assert AMI_UP._value.get() == 1
        assert server.actions[0]["Username"] == "hotline"
        assert set(ami.channels) == {"1.1", "1.2"}
        assert ami.channels["1.1"].extension == "100"
    assert AMI_UP._value.get() == 0


async def test_channels_follow_events() -> None:
    async with FakeAmi() as server, link(server) as ami:
        heard = Heard(ami)
        server.send(
            event("Newchannel", **channel_fields("7.1", "PJSIP/a")),
            event("Newstate", **channel_fields("7.1", "PJSIP/a") | {"ChannelStateDesc": "Ringing"}),
            event("Rename", Uniqueid="7.1", Channel="PJSIP/a", Newname="PJSIP/b"),
            event("Marker"),
        )
        await heard.until(lambda event: event.name == "Marker")
        assert (ami.channels["7.1"].name, ami.channels["7.1"].state) == ("PJSIP/b", "Ringing")
        server.send(event("Hangup", Uniqueid="7.1"), event("Marker", Last="1"))
        await heard.until(lambda event: "Last" in event.fields)
        assert not ami.channels


async def test_what_ends_while_stock_is_taken_is_not_listed() -> None:
    def reply(action: dict[str, str]) -> str | None:
        if action["Action"] == "CoreShowChannels":
            return show_channels(action, "1.1", "1.2", between=event("Hangup", Uniqueid="1.1"))
        return accept(action)

    async with FakeAmi(reply) as server, link(server) as ami:
        assert set(ami.channels) == {"1.2"}


async def test_wrong_password_is_said_in_one_line() -> None:
    def reply(action: dict[str, str]) -> str | None:
        return message(action, Response="Error", Message="Authentication failed")

    async with FakeAmi(reply) as server:
        with pytest.raises(TelephonyError) as caught:
            async with link(server):
                pass
        assert str(caught.value) == (
            f"Asterisk refused the manager password for user hotline at 127.0.0.1:{server.port}: "
            "Authentication failed"
        )


async def test_nobody_there_is_said_in_one_line() -> None:
    async with FakeAmi() as server:
        port = server.port
    with pytest.raises(TelephonyError, match=f"127.0.0.1:{port} cannot be reached"):
        await Ami("127.0.0.1", port, "hotline", "secret", pace=QUICK).start()


async def test_a_server_that_never_answers_the_login() -> None:
    async with FakeAmi(lambda action: None) as server:
        with pytest.raises(TelephonyError, match="did not answer Login"):
            async with link(server, QUICK):
                pass


@pytest.mark.parametrize("value", ["a\r\nAction: Command", "a\nb", "a\rb", "a\0b", "x" * 2000])
async def test_a_value_is_never_another_header(value: str) -> None:
    async with FakeAmi() as server, link(server) as ami:
        before = len(server.actions)
        with pytest.raises(LocalProtocolError):
            await ami.action("Setvar", Channel="c", Variable="v", Value=value)
        with pytest.raises(LocalProtocolError):
            await ami.action("Originate", Variable=["a=1", f"b={value}"])
        await ami.action("Ping")
        assert len(server.actions) == before + 1


async def test_a_key_is_never_another_header() -> None:
    async with FakeAmi() as server, link(server) as ami:
        with pytest.raises(LocalProtocolError):
            await ami.action("Ping", **{"a: b\r\nAction": "x"})


async def test_refusal_carries_asterisks_reason() -> None:
    def reply(action: dict[str, str]) -> str | None:
        if action["Action"] == "Hangup":
            return message(action, Response="Error", Message="No such channel")
        return accept(action)

    async with FakeAmi(reply) as server, link(server) as ami:
        with pytest.raises(TelephonyError, match="refused Hangup: No such channel"):
            await ami.action("Hangup", Channel="PJSIP/none")
        assert ami.connected


async def test_originate_is_always_asynchronous_and_its_outcome_an_event() -> None:
    async with FakeAmi() as server, link(server) as ami:
        heard = Heard(ami)
        reply = await ami.action("Originate", Channel="Local/1@x", Async="false")
        assert (await server.seen("Originate"))["Async"] == "true"
        server.send(event("OriginateResponse", ActionID=reply.action_id, Response="Failure"))
        outcome = await heard.until(lambda event: event.name == "OriginateResponse")
        assert outcome.fields["Response"] == "Failure"


async def test_every_action_has_a_deadline() -> None:
    def reply(action: dict[str, str]) -> str | None:
        return None if action["Action"] == "Status" else accept(action)

    async with FakeAmi(reply) as server, link(server, QUICK) as ami:
        with pytest.raises(TelephonyError, match=r"did not answer Status .* outcome unknown"):
            await ami.action("Status")


async def test_a_silent_link_is_noticed_and_replaced() -> None:
    deaf = False

    def reply(action: dict[str, str]) -> str | None:
        return None if deaf else accept(action)

    async with FakeAmi(reply) as server, link(server, QUICK) as ami:
        deaf = True
        await connected(ami, False)
        assert AMI_UP._value.get() == 0
        with pytest.raises(TelephonyError, match="is down"):
            await ami.action("Ping")
        deaf = False
        await connected(ami, True)
        await ami.action("Ping")


async def test_nothing_is_sent_again_after_a_cut() -> None:
    def reply(action: dict[str, str]) -> str | None:
        return None if action["Action"] == "Originate" else accept(action)

    async with FakeAmi(reply) as server, link(server) as ami:
        dialling = asyncio.ensure_future(ami.action("Originate", Channel="Local/1@x"))
        await server.seen("Originate")
        server.cut()
        with pytest.raises(TelephonyError, match="lost during Originate: outcome unknown"):
            await dialling
        await server.seen("CoreShowChannels", 2)
        await connected(ami, True)
        await ami.action("Ping")
        assert [action["Action"] for action in server.actions].count("Originate") == 1


async def test_a_cut_in_mid_message_and_fresh_stock() -> None:
    listed = ["1.1", "1.2"]

    def reply(action: dict[str, str]) -> str | None:
        if action["Action"] == "CoreShowChannels":
            return show_channels(action, *listed)
        return accept(action)

    async with FakeAmi(reply) as server, link(server) as ami:
        heard = Heard(ami)
        listed[:] = ["1.2", "1.3"]
        server.send("Event: Newchannel\r\nUniqueid: 9.9\r\nChan")
        server.cut()
        ended = await heard.until(lambda event: event.name == "Hangup")
        assert ended.fields["Uniqueid"] == "1.1"
        assert set(ami.channels) == {"1.2", "1.3"}


async def test_an_event_split_at_every_byte() -> None:
    text = event("UserEvent", Name="水费 – Zürich 🚰", Number="5").encode()
    async with FakeAmi() as server, link(server) as ami:
        protocol = ami._link.protocol  # type: ignore[union-attr]
        for split in range(1, len(text)):
            heard = Heard(ami)
            protocol.data_received(text[:split])
            protocol.data_received(text[split:])
            assert [event.fields["Name"] for event in heard.events] == ["水费 – Zürich 🚰"], split


async def test_bytes_that_are_not_utf8_and_garbage_do_not_end_the_link() -> None:
    async with FakeAmi() as server, link(server) as ami:
        heard = Heard(ami)
        server.send(b"Event: UserEvent\r\nName: a\xff\xfeb\r\n\r\n", "garbage\r\n\r\n\r\n\r\n")
        server.send(": x\r\nEvent: Odd\r\n\r\n")
        await heard.until(lambda event: event.name == "Odd")
        assert heard.events[0].fields["Name"] == "ab"
        await ami.action("Ping")


async def test_a_message_without_an_end_ends_the_link() -> None:
    async with FakeAmi() as server, link(server) as ami:
        server.send(*(f"Key{number}: {'x' * 1000}\r\n" for number in range(1100)))
        await server.seen("Login", 2)
        await connected(ami, True)


async def test_a_subscriber_that_fails_does_not_stop_the_others() -> None:
    async with FakeAmi() as server, link(server) as ami:

        def fail(event: AmiEvent) -> None:
            raise ValueError("mine")

        stop = ami.subscribe(fail)
        heard = Heard(ami)
        server.send(event("One"))
        await heard.until(lambda event: event.name == "One")
        stop()
        stop()
