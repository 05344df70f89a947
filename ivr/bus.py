"""News between the servers that share a database: within one process, or over Redis for several.

Redis carries news and keeps nothing. What is lost while it is away is found in the database a
second later, so losing it makes the servers slower to notice each other and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ivr import observe
from ivr.errors import SettingsError

log = structlog.get_logger()

Callback = Callable[[Mapping[str, Any]], None]

_MOST_UNSENT = 1000
_AT_ONCE = 100
_SECONDS = 5.0
"""How long Redis may take to answer before it counts as away."""
_PAUSES = (0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts to reach it; the last repeats."""


class MemoryBus:
    """`ivr.ports.Bus` within one process."""

    connected = True

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(topic for topic, callbacks in self._callbacks.items() if callbacks)

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        for callback in tuple(self._callbacks.get(topic, ())):
            asyncio.get_running_loop().call_soon(_called, callback, topic, body)

    def subscribe(self, topic: str, callback: Callback) -> Callable[[], None]:
        callbacks = self._callbacks.setdefault(topic, [])
        callbacks.append(callback)

        def stop() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return stop

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisBus:
    """`ivr.ports.Bus` over Redis' PUBLISH and SUBSCRIBE. Who listens in this process is told
    directly, whether or not Redis is there."""

    def __init__(self, client: Redis, prefix: str):
        self._client = client
        self._prefix = prefix
        self._here = MemoryBus()
        self._us = secrets.token_hex(8)
        self._unsent: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_MOST_UNSENT)
        self._pubsub: PubSub | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending_fails = False
        self._said_away = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Begin to listen. Raises SettingsError for an address that is none; a Redis that is away
        is waited for meanwhile. Hotlines that share a Redis use different database numbers."""
        try:
            client = Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                retry=Retry(NoBackoff(), 0),
                max_connections=4,
            )
        except ValueError as error:
            raise SettingsError(
                f"setting redis_url: {error}; it looks like redis://:password@host:6379/0"
            ) from None
        number = client.connection_pool.connection_kwargs.get("db") or 0
        bus = cls(client, f"hotline.{number}.")
        for work in (bus._listen(), bus._send()):
            bus._tasks.add(asyncio.ensure_future(work))
        return bus

    @property
    def connected(self) -> bool:
        """Whether the other servers hear us and we hear them."""
        return self._pubsub is not None and not self._sending_fails

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        self._here.publish(topic, body)
        try:
            text = json.dumps({"from": self._us, "body": body}, default=_plain)
            self._unsent.put_nowait((self._prefix + topic, text))
        except asyncio.QueueFull:
            observe.BUS_LOST.inc()
        except (TypeError, ValueError) as error:
            log.error("news cannot be told", topic=topic, error=str(error))

    def subscribe(self, topic: str, callback: Callback) -> Callable[[], None]:
        return self._here.subscribe(topic, callback)

    async def close(self) -> None:
        """Tell nobody anything any more. Idempotent."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pubsub = None
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    # --- both directions -------------------------------------------------------------------------

    async def _listen(self) -> None:
        failed = 0
        while True:
            pubsub = self._client.pubsub()
            try:
                # All topics: there are few servers, and what is for another is not even parsed.
                await pubsub.psubscribe(self._prefix + "*")
                self._pubsub, failed = pubsub, 0
                self._tell_state()
                await self._hear(pubsub)
            except (RedisError, OSError) as error:
                self._pubsub = None
                self._tell_state(error)
            finally:
                self._pubsub = None
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(_PAUSES[min(failed, len(_PAUSES) - 1)])
            failed += 1

    async def _hear(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=_SECONDS)
            if message is None:
                # Half-open connections are silent too: whoever does not answer is away.
                if asked:
                    raise OSError("Redis does not answer")
                asked = True
                await pubsub.ping()
                continue
            asked = False
            if message["type"] == "pmessage":
                self._heard(str(message["channel"]).removeprefix(self._prefix), message["data"])

    def _heard(self, topic: str, text: Any) -> None:
        if topic not in self._here.topics:
            return
        try:
            told = json.loads(text)
            sender, body = told["from"], told["body"]
        except (TypeError, ValueError, KeyError, LookupError):
            log.warning("news that is none", topic=topic[:80])
            return
        if sender != self._us and isinstance(body, dict):
            self._here.publish(topic, body)

    async def _send(self) -> None:
        while True:
            news = [await self._unsent.get()]
            while len(news) < _AT_ONCE and not self._unsent.empty():
                news.append(self._unsent.get_nowait())
            try:
                async with self._client.pipeline(transaction=False) as pipeline:
                    for channel, text in news:
                        pipeline.publish(channel, text)
                    await pipeline.execute()
            except (RedisError, OSError) as error:
                # Not sent again: it would come late, and whoever missed it looks for itself.
                observe.BUS_LOST.inc(len(news))
                self._sending_fails = True
                self._tell_state(error)
                await asyncio.sleep(_PAUSES[0])
            else:
                if self._sending_fails:
                    self._sending_fails = False
                    self._tell_state()

    def _tell_state(self, error: Exception | None = None) -> None:
        observe.BUS_UP.set(self.connected)
        if error is not None and not self._said_away:
            log.warning("Redis is away: servers notice each other later", error=str(error)[:200])
        elif error is None and self._said_away:
            log.info("Redis is back")
        self._said_away = error is not None


def _called(callback: Callback, topic: str, body: Mapping[str, Any]) -> None:
    try:
        callback(body)
    except Exception:  # what one listener cannot bear, the others still hear
        log.exception("news not taken", topic=topic)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
