"""Many callers at once: SIPp. Some press keys, put into a packet capture; others talk without end.

SIPp's own captures have one key each, all with the same sequence numbers, so that the same key
twice is one to any receiver. SIPp writes captures to raw sockets and therefore needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ivr.ports import FRAME_SECONDS
from ivr.wire.rtp import Sender

_FOLDER = Path(__file__).parent
_SCENARIOS = {"caller": "keypad.xml", "callee": "keypad_until_bye.xml"}
_COMMON = """
    -sf scenario.xml -timeout_error -nostdin
    -trace_stat -stf stat.csv -fd 1 -trace_err -error_file errors.log
"""
_PAUSE_TICKS = 25
_START_SECONDS = 60.0  # beyond the calls themselves: to start, to be refused, to hang up


@dataclass(frozen=True, slots=True)
class SippResult:
    """How a run came out. `calls` were made, `failed` of them did not go through the scenario."""

    calls: int
    failed: int
    log: str


def ticks(keys: str, tail: float) -> Iterator[list[bytes]]:
    """The RTP of each 20 ms: keys, silence for every `w` (half a second), and at the end."""
    sender = Sender(ssrc=0x51BB)
    for key in keys:
        if key == "w":
            yield from (list(sender.tick()) for _ in range(_PAUSE_TICKS))
            continue
        sender.press(key)
        while sender.pressing:
            yield list(sender.tick())
        yield from (list(sender.tick()) for _ in range(4))
    yield from (list(sender.tick()) for _ in range(round(tail / FRAME_SECONDS)))


def capture(packets: list[tuple[float, bytes]]) -> bytes:
    """A pcap file of UDP over IPv4 over Ethernet; SIPp puts its own addresses in."""
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for at, payload in packets:
        udp = struct.pack("!HHHH", 6000, 6000, 8 + len(payload), 0) + payload
        loopback = bytes((127, 0, 0, 1))
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
        frame = bytes(12) + b"\x08\x00" + header + loopback * 2 + udp
        seconds, micro = divmod(round(at * 1_000_000), 1_000_000)
        content += struct.pack("<IIII", seconds, micro, len(frame), len(frame)) + frame
    return content


async def run_sipp(
    extension: str,
    keys: str,
    *,
    port: int,
    calls: int = 50,
    rate: int = 25,
    tail: float = 1.0,
    ends: Literal["caller", "callee"] = "caller",
    server: str = "127.0.0.1",
    caller: str = "+1415555",
) -> SippResult:
    """Make `calls` calls, `rate` of them a second and all at once if they last, each of which dials
    `extension`, presses `keys` (`w` waits half a second), stays for `tail` seconds, and hangs up or
    waits to be hung up. Always ends by itself."""
    timeline = list(ticks(keys, tail))
    packets = [(at * FRAME_SECONDS, packet) for at, tick in enumerate(timeline) for packet in tick]
    seconds = len(timeline) * FRAME_SECONDS
    limit = seconds + calls / rate + _START_SECONDS + (120 if ends == "callee" else 0)
    files = {
        "scenario.xml": (_FOLDER / _SCENARIOS[ends]).read_bytes(),
        "keys.pcap": capture(packets),
    }
    words = f"""
        -s {extension} -key caller {caller} -i {server} -mi {server}
        -m {calls} -l {calls} -r {rate} -d {seconds * 1000:.0f} {server}:{port}
    """
    return await _run(words, files, calls, limit)


async def run_talkers(
    extension: str,
    ulaw: bytes,
    *,
    port: int,
    calls: int,
    within: float,
    rounds: int,
    media_port: int,
    server: str = "127.0.0.1",
    caller: str = "+1415556",
    began: Callable[[int], None] = lambda pid: None,
) -> SippResult:
    """Make `calls` calls, evenly `within` so many seconds, that send `ulaw` over and over, press 1
    every ten seconds and hang up after so many `rounds` of these. Their audio uses the ports from
    `media_port` on, two a call. `began` is told SIPp's process."""
    scenario = (_FOLDER / "talk.xml").read_text().replace("ROUNDS", str(rounds))
    files = {"scenario.xml": scenario.encode(), "talk.ulaw": ulaw}
    words = f"""
        -s {extension} -key caller {caller} -i {server} -mi {server}
        -mp {media_port}
        -m {calls} -l {calls} -r {calls} -rp {within * 1000:.0f} {server}:{port}
    """
    return await _run(words, files, calls, within + 10 * rounds + _START_SECONDS, began)


async def _run(
    words: str,
    files: Mapping[str, bytes],
    calls: int,
    limit: float,
    began: Callable[[int], None] = lambda pid: None,
) -> SippResult:
    """Run SIPp on `scenario.xml`, for `limit` seconds at most."""
    with tempfile.TemporaryDirectory(prefix="hotline-sipp-") as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        process = await asyncio.create_subprocess_exec(
            "sipp",
            *f"{_COMMON} -timeout {limit:.0f}s {words}".split(),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        began(process.pid)
        try:
            async with asyncio.timeout(limit + 10):
                _, complaint = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        log = complaint.decode(errors="replace")
        for file in folder.glob("*.log"):
            log += file.read_text(errors="replace")
        return SippResult(*_counts(folder / "stat.csv", calls), log)


def _counts(file: Path, calls: int) -> tuple[int, int]:
    """Calls made and calls failed; what SIPp did not even begin is failed, too."""
    if not file.exists():
        return 0, calls
    *_, last = csv.DictReader(file.read_text().splitlines(), delimiter=";")
    made, good = int(last["TotalCallCreated"]), int(last["SuccessfulCall(C)"])
    return made, calls - good
