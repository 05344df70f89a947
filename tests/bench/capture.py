"""When audio passes the loopback interface, as the kernel saw it, without the measurer's delays.

A few connections are watched, by a filter in the kernel; to look at all 20,000 packets a second
would cost more than what is measured. Needs root, as SIPp's captures do.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Literal, Self

from ivr.ports import FRAME_SECONDS
from ivr.wire.audiosocket import PACKED_FRAME_BYTES

_SO_ATTACH_FILTER = 26
_SO_TIMESTAMPNS = 35
_IPV4 = 0x0800
_LEAST_AUDIO = {socket.IPPROTO_UDP: 160, socket.IPPROTO_TCP: PACKED_FRAME_BYTES}
_POLL_SECONDS = 0.2
_BUFFER = 4 << 20


@dataclass(frozen=True, slots=True)
class Watched:
    """What to watch: packets of one protocol, by their port on one side."""

    protocol: int
    end: Literal["source", "destination"]
    ports: tuple[int, ...]


class Capture:
    """Times of audio packets while it is open, for each watched port."""

    def __init__(self, watched: Watched):
        self._watched = watched
        self._times: dict[int, list[float]] = defaultdict(list)
        self._stop = threading.Event()
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(_IPV4)
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        _attach(self._socket, _filter(self._watched))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.settimeout(_POLL_SECONDS)
        self._socket.bind(("lo", _IPV4))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def deviations(self) -> list[float]:
        """How far from 20 ms each gap between two frames of one stream was, in seconds."""
        return [
            abs(later - earlier - FRAME_SECONDS)
            for times in self._times.values()
            for earlier, later in pairwise(times)
        ]

    @property
    def streams(self) -> int:
        """How many of the watched ports had audio."""
        return len(self._times)

    def _read(self) -> None:
        least = _LEAST_AUDIO[self._watched.protocol]
        offset = 0 if self._watched.end == "source" else 2
        while not self._stop.is_set():
            try:
                packet, ancillary, _, address = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            if address[2] == socket.PACKET_OUTGOING:  # each is seen twice: going, and coming
                continue
            header = (packet[0] & 0xF) * 4
            over = (
                8
                if self._watched.protocol == socket.IPPROTO_UDP
                else (packet[header + 12] >> 4) * 4
            )
            (length,) = struct.unpack_from("!H", packet, 2)
            frames = (length - header - over) // least
            (port,) = struct.unpack_from("!H", packet, header + offset)
            seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
            self._times[port] += [seconds + nanoseconds * 1e-9] * frames


def _filter(watched: Watched) -> Sequence[tuple[int, int, int, int]]:
    """A program for the kernel's classic packet filter: protocol, then one of the ports."""
    ports = watched.ports
    end = 0 if watched.end == "source" else 2
    return (
        (0x30, 0, 0, 9),  # load the protocol
        (0x15, 0, len(ports) + 2, watched.protocol),  # go on if it is ours, else to the last line
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x48, 0, 0, end),  # load the port after it
        *((0x15, len(ports) - at, 0, port) for at, port in enumerate(ports)),
        (0x06, 0, 0, 0),  # no
        (0x06, 0, 0, 128),  # yes: so many bytes of it
    )


def _attach(to: socket.socket, program: Iterable[tuple[int, int, int, int]]) -> None:
    lines = [struct.pack("HBBI", *line) for line in program]
    code = ctypes.create_string_buffer(b"".join(lines))
    whole = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, whole)
