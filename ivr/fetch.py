"""Calls the systems that flows name, and nothing else: the one way out of a flow to HTTP.

What a flow can reach is decided here and by the settings, whatever the flow, a customer or another
system says: the hosts of `uses`, at public addresses unless the settings allow private ones.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from ivr.errors import NotAllowed, SettingsError
from ivr.flow.events import Fetch, FetchAnswered

LARGEST_ANSWER = 64 * 1024
LONGEST = 60.0
"""Seconds that a fetch may take, whatever the flow says: a caller waits for it."""

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_AS_IT_IS = {"Accept": "application/json", "Accept-Encoding": "identity"}
_LOOKUPS = 4
_NEXT_ADDRESS_AFTER = 2.0  # seconds, so that one dead address does not take a fetch's whole time
_CONNECTIONS = httpx2.Limits(max_connections=100, max_keepalive_connections=20)


class HttpFetcher:
    """`ivr.ports.Fetcher` over HTTP.

    A flow names a system and a path; the address of the system comes from the settings (`uses`)
    alone. Redirects are not followed, cookies not kept, answers over 64 KiB refused, and only a
    request that may be repeated is tried a second time. `private` are the systems that may be at
    private addresses, True for all. Raises SettingsError for an address that is none.
    """

    def __init__(self, uses: Mapping[str, str], private: bool | Collection[str] = False):
        # At their debug level these log headers, and headers may hold secrets.
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._uses = {name: _base(name, url) for name, url in uses.items()}
        # Names have threads of their own: a lookup lasts for as long as its servers are away, and
        # prompts must not queue behind it.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "lookup")
        self._open = _client(_Network(self._lookups, anywhere=True))
        self._guarded = _client(_Network(self._lookups, anywhere=False))
        self._private = frozenset(uses) if private is True else frozenset(private or ())
        if strange := sorted(self._private - set(uses)):
            raise SettingsError(f"setting uses_private: {strange[0]!r} is not one of `uses`")

    async def close(self) -> None:
        await self._open.aclose()
        await self._guarded.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, request: Fetch) -> FetchAnswered:
        if request.system not in self._uses:
            return FetchAnswered(
                request.id, error=f"the settings name no system {request.system!r}"
            )
        attempts = 2 if request.method in _REPEATABLE else 1
        seconds = min(request.timeout, LONGEST)
        try:
            async with asyncio.timeout(seconds):
                for attempt in range(attempts):
                    try:
                        return await self._once(request)
                    except httpx2.TransportError:
                        if attempt + 1 == attempts:
                            raise
        except TimeoutError:
            return FetchAnswered(request.id, error=f"no answer within {seconds:g} s")
        except NotAllowed as error:
            return FetchAnswered(request.id, error=str(error))
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError) as error:
            # The error's own text may quote a header, and so a secret.
            return FetchAnswered(request.id, error=_ERRORS.get(type(error), type(error).__name__))
        raise AssertionError("unreachable: the loop returns or raises")

    async def _once(self, request: Fetch) -> FetchAnswered:
        # Whatever the path begins with, it must not become part of the host's name.
        joint = "" if request.path.startswith(("/", "?")) else "/"
        client = self._open if request.system in self._private else self._guarded
        async with client.stream(
            request.method,
            f"{self._uses[request.system]}{joint}{request.path}",
            headers={**_AS_IT_IS, **request.headers},
            json=request.json,
        ) as response:
            body = bytearray()
            # Not unpacked: a small answer may unpack to a large one.
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > LARGEST_ANSWER:
                    return FetchAnswered(
                        request.id, response.status_code, error="the answer is over 64 KiB"
                    )
        try:
            value = json.loads(body) if body.strip() else None
        except (ValueError, RecursionError):
            # That another page tells of an error is no surprise; the status says what it was.
            error = "the answer is not JSON" if response.is_success else ""
            return FetchAnswered(request.id, response.status_code, error=error)
        return FetchAnswered(request.id, response.status_code, value)


_ERRORS: Mapping[type[Exception], str] = {
    httpx2.ConnectError: "it cannot be reached",
    httpx2.ReadError: "the connection broke",
    httpx2.WriteError: "the connection broke",
    httpx2.RemoteProtocolError: "it does not speak HTTP, or closed the connection",
    httpx2.LocalProtocolError: "the request has a header that cannot be sent",
    httpx2.InvalidURL: "the address cannot be used",
    UnicodeEncodeError: "the request has a header that cannot be sent",
    TypeError: "the request has a body that is no JSON",
}


def _base(name: str, url: str) -> str:
    """The beginning of a system's addresses."""
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host
    except httpx2.InvalidURL:
        usable = False
    if not usable or parsed.query or parsed.fragment:
        raise SettingsError(
            f"setting uses.{name}: {url!r} is no address; one looks like https://crm.example.com/api"
        )
    return url.rstrip("/")


def client(lookups: ThreadPoolExecutor, *, private: bool) -> httpx2.AsyncClient:
    """What this project calls other systems with: no redirects, no cookies, no proxies, and only
    public addresses unless `private`; another one raises NotAllowed."""
    return _client(_Network(lookups, anywhere=private))


def _client(network: _Network) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(trust_env=False, limits=_CONNECTIONS)
    # The one place between the name and the connection, so that what was checked is what is
    # connected to; TLS goes on checking the name.
    transport._pool._network_backend = network
    client = httpx2.AsyncClient(
        transport=transport, follow_redirects=False, trust_env=False, timeout=LONGEST
    )
    # One caller's session with another system must not become the next one's.
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


class _Network(httpcore2.AsyncNetworkBackend):
    """Looks names up in threads of its own; connects to public addresses alone, or `anywhere`."""

    def __init__(self, lookups: ThreadPoolExecutor, *, anywhere: bool) -> None:
        self._network = httpcore2.AnyIOBackend()
        self._lookups = lookups
        self._anywhere = anywhere

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await addresses_of(host, port, self._lookups)
        allowed = [address for address in addresses if self._anywhere or is_public(address)]
        if not allowed:
            raise NotAllowed(
                f"{host} is at a private address; setting uses_private must allow that"
            )
        soon = min(timeout or LONGEST, _NEXT_ADDRESS_AFTER)
        for address in allowed[:-1]:
            try:
                return await self._network.connect_tcp(
                    address, port, soon, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(
            allowed[-1], port, timeout, local_address, socket_options
        )


async def addresses_of(host: str, port: int, threads: ThreadPoolExecutor) -> list[str]:
    """The addresses of a host, the preferred one first. Raises httpcore's ConnectError."""
    loop = asyncio.get_running_loop()

    def lookup() -> list[Any]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    try:
        found = await loop.run_in_executor(threads, lookup)
    except (OSError, UnicodeError):
        raise httpcore2.ConnectError(f"{host} is unknown") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, in whatever clothes it comes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
