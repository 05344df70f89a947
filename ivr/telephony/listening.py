"""Listening on a TCP port, with an error that tells an operator which setting to change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from ivr.errors import TelephonyError


class _Factory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], Protocol]):
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # noqa: N802
        return self._make()


def listen(reactor: Any, host: str, port: int, make: Callable[[], Protocol], key: str) -> Any:
    """Listen, with a protocol made for each connection. Raises TelephonyError; `key` is the setting
    that holds the port."""
    try:
        return reactor.listenTCP(port, _Factory(make), interface=host)
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        raise TelephonyError(
            f"port {port} is taken: {reason} on {host}; set asterisk.{key} to a free one"
        ) from None


async def stop_listening(listening: Any) -> None:
    """Close a listening port, and wait until it is free."""
    closed = listening.stopListening()
    if closed is not None:
        await closed.asFuture(asyncio.get_running_loop())
