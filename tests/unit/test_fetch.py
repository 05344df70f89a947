"""The one way out: where it leads, and that nothing that comes back can do harm."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ivr import fetch
from ivr.errors import SettingsError
from ivr.fetch import HttpFetcher, is_public
from ivr.flow.events import Fetch, FetchAnswered

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server that says what the test wants, and remembers what it was asked."""

    answers: list[Answer]
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.decode())
            answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
            await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def server(*answers: Answer) -> AsyncIterator[Server]:
    told = Server(list(answers))
    listening = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.port = listening.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        listening.close()


@asynccontextmanager
async def fetcher(told: Server, private: Any = True, host: str = "127.0.0.1") -> AsyncIterator[Any]:
    made = HttpFetcher({"crm": f"http://{host}:{told.port}/api"}, private)
    try:
        yield made
    finally:
        await made.close()


def wanted(method: str = "GET", path: str = "/42", timeout: float = 5.0, **more: Any) -> Fetch:
    return Fetch("fetch-1", method, "crm", path, timeout, **more)


def says(body: bytes, status: str = "200 OK", headers: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def ask(answer: Answer, request: Fetch | None = None) -> FetchAnswered:
    async with server(answer) as told, fetcher(told) as crm:
        answered: FetchAnswered = await crm.fetch(request or wanted())
        return answered


# --- answers --------------------------------------------------------------------------------------


async def test_an_answer_comes_with_its_status() -> None:
    body = json.dumps({"name": "Ann", "balance": 12.5}).encode()
    async with server(says(body)) as told, fetcher(told) as crm:
        answer = await crm.fetch(wanted(headers={"X-Pin": "1234"}))
    assert answer == FetchAnswered("fetch-1", 200, {"name": "Ann", "balance": 12.5})
    assert told.asked[0].startswith("GET /api/42 HTTP/1.1\r\n")
    assert "X-Pin: 1234\r\n" in told.asked[0]


async def test_an_empty_answer_is_null() -> None:
    assert await ask(says(b"", "204 No Content")) == FetchAnswered("fetch-1", 204)


async def test_what_is_not_json_is_an_error() -> None:
    assert (await ask(says(b"<html>"))).error == "the answer is not JSON"
    assert (await ask(says(b"[" * 60_000))).error == "the answer is not JSON"


async def test_a_failure_keeps_its_status_whatever_its_page_says() -> None:
    assert await ask(says(b"<html>", "500 Oh")) == FetchAnswered("fetch-1", 500)


async def test_a_redirect_is_not_followed() -> None:
    async with server(says(b"{}")) as other:
        elsewhere = f"Location: http://127.0.0.1:{other.port}/\r\n"
        answer = await ask(says(b"", "302 Found", elsewhere))
    assert answer == FetchAnswered("fetch-1", 302)
    assert other.asked == []


async def test_an_answer_that_is_too_large_is_refused() -> None:
    fits = json.dumps("x" * (fetch.LARGEST_ANSWER - 2)).encode()
    assert (await ask(says(fits))).error == ""
    assert (await ask(says(fits + b" "))).error == "the answer is over 64 KiB"


async def test_an_answer_without_end_is_refused() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
            await writer.drain()

    assert (await ask(endless)).error == "the answer is over 64 KiB"


async def test_a_slow_drip_ends_with_the_time() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    answer = await ask(drip, wanted(timeout=0.1))
    assert answer.error == "no answer within 0.1 s"


async def test_nonsense_is_an_error_and_not_an_exception() -> None:
    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff" * 200)
        await writer.drain()

    assert (await ask(nonsense)).error == "it does not speak HTTP, or closed the connection"


async def test_a_packed_answer_is_not_unpacked() -> None:
    answer = await ask(says(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"))
    assert answer.error == "the answer is not JSON"


async def test_cookies_are_nobodys() -> None:
    sets = says(b"{}", headers="Set-Cookie: session=ann; Path=/\r\n")
    async with server(sets) as told, fetcher(told) as crm:
        await crm.fetch(wanted())
        await crm.fetch(wanted())
    assert "cookie" not in told.asked[1].lower()


# --- trying again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_may_be_repeated_is_tried_twice(method: str) -> None:
    async with server(hangs_up, says(b"1")) as told, fetcher(told) as crm:
        assert (await crm.fetch(wanted(method))).json == 1
    assert len(told.asked) == 2


async def test_it_is_not_tried_a_third_time() -> None:
    async with server(hangs_up) as told, fetcher(told) as crm:
        assert (await crm.fetch(wanted())).error
    assert len(told.asked) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_not_be_repeated_is_tried_once(method: str) -> None:
    async with server(hangs_up, says(b"1")) as told, fetcher(told) as crm:
        assert (await crm.fetch(wanted(method, json={"day": "2026-11-20"}))).error
    assert len(told.asked) == 1


async def test_an_answer_that_is_a_refusal_is_not_asked_for_again() -> None:
    async with server(says(b"{}", "503 Busy")) as told, fetcher(told) as crm:
        assert (await crm.fetch(wanted())).status == 503
    assert len(told.asked) == 1


# --- where it leads -------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_private_addresses_are_refused_by_default(host: str) -> None:
    async with server(says(b"{}")) as told, fetcher(told, False, host) as crm:
        answer = await crm.fetch(wanted())
    assert answer.error == f"{host} is at a private address; setting uses_private must allow that"
    assert told.asked == []


async def test_private_addresses_can_be_allowed_by_name() -> None:
    async with server(says(b"1")) as told:
        url = f"http://127.0.0.1:{told.port}"
        both = HttpFetcher({"crm": url, "shop": url}, ["shop"])
        assert (await both.fetch(wanted())).error
        assert (await both.fetch(Fetch("f", "GET", "shop", "/", 5.0))).json == 1
        await both.close()


async def test_what_was_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere the second time it is looked up leads nowhere."""
    looked_up: list[str] = []
    checked: list[str] = []

    async def addresses(host: str, port: int, threads: Any) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    def public(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1"

    monkeypatch.setattr(fetch, "addresses_of", addresses)
    monkeypatch.setattr(fetch, "is_public", public)
    async with (
        server(says(b"1", headers="Connection: close\r\n")) as told,
        fetcher(told, False, "crm.example.com") as crm,
    ):
        assert (await crm.fetch(wanted())).json == 1
        assert looked_up == ["crm.example.com"]
        assert "private address" in (await crm.fetch(wanted())).error
    assert checked == ["127.0.0.1", "10.0.0.1"]
    assert f"Host: crm.example.com:{told.port}\r\n" in told.asked[0]


@pytest.mark.parametrize("private", [False, True])
async def test_names_that_are_not_found_for_long_hold_up_nothing_else(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are read in the loop's own threads; those must stay free."""
    back = threading.Event()

    def away(*_: Any, **__: Any) -> Any:
        back.wait(30)
        raise socket.gaierror("no server answers")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    crm = HttpFetcher({"crm": "https://crm.example.com"}, private)
    try:
        asked = [asyncio.ensure_future(crm.fetch(wanted(timeout=0.3))) for _ in range(40)]
        done, _ = await asyncio.wait(asked)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "prompt"), 5) == "prompt"
        assert {task.result().error for task in done} == {"no answer within 0.3 s"}
    finally:
        back.set()
        await crm.close()


async def test_where_one_address_is_dead_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses(host: str, port: int, threads: Any) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(fetch, "addresses_of", addresses)
    async with server(says(b"1")) as told, fetcher(told, True, "crm.example.com") as crm:
        assert (await crm.fetch(wanted())).json == 1


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1", "nonsense",
    ],
)  # fmt: skip
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_what_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("path", [".evil.example/", "@evil.example/", ":1/", "", "evil"])
async def test_a_path_cannot_lead_to_another_host(path: str) -> None:
    async with server(says(b"1")) as told:
        crm = HttpFetcher({"crm": f"http://127.0.0.1:{told.port}"}, True)
        assert (await crm.fetch(wanted(path=path))).json == 1
        await crm.close()
    assert told.asked[0].startswith(f"GET /{path} ")


async def test_only_what_the_settings_name_is_called() -> None:
    crm = HttpFetcher({})
    assert (await crm.fetch(wanted())).error == "the settings name no system 'crm'"
    await crm.close()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await ask(says(b"1"))).json == 1


@pytest.mark.parametrize("url", ["crm.example.com", "ftp://crm.example.com", "http://", "x", "a?b"])
def test_an_address_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match=r"uses\.crm"):
        HttpFetcher({"crm": url})


def test_a_private_system_must_be_one_of_the_systems() -> None:
    with pytest.raises(SettingsError, match="'shop'"):
        HttpFetcher({"crm": "http://10.0.0.1"}, ["shop"])


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1\r\nX-Admin: yes", "1\nX-Admin: yes", "1\0", "四"])
async def test_a_header_cannot_be_smuggled_in(value: str) -> None:
    async with server(says(b"1")) as told, fetcher(told) as crm:
        answer = await crm.fetch(wanted(headers={"X-Pin": value}))
    assert answer.error == "the request has a header that cannot be sent"
    assert told.asked == []


async def test_no_header_is_in_a_message_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bad = await ask(says(b"1"), wanted(headers={"X-Pin": "4711\n"}))
    good = await ask(says(b"1"), wanted(headers={"X-Pin": "4711"}))
    assert good.json == 1
    assert "4711" not in bad.error + caplog.text
