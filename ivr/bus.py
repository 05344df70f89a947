"""News between the servers that share a database; with one server they stay in its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

Callback = Callable[[Mapping[str, Any]], None]


class MemoryBus:
    """`ivr.ports.Bus` within one process."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}

    def publish(self, topic: str, body: Mapping[str, Any]) -> None:
        for callback in tuple(self._callbacks.get(topic, ())):
            asyncio.get_running_loop().call_soon(callback, body)

    def subscribe(self, topic: str, callback: Callback) -> Callable[[], None]:
        callbacks = self._callbacks.setdefault(topic, [])
        callbacks.append(callback)

        def stop() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return stop
