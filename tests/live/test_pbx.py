"""The local PBX, really started."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable

import psutil
import pytest

from ivr.config import Settings
from ivr.errors import TelephonyError
from ivr.telephony import pbx
from ivr.telephony.asterisk import Ami
from tests.live.conftest import manager

pytestmark = pytest.mark.live


def test_up_down_and_up_again(live_settings: Callable[..., Settings]) -> None:
    settings = live_settings()
    said: list[str] = []
    first = pbx.up(settings, said.append)
    assert first.running
    assert "is up after" in said[-1]
    assert "Up" not in pbx.console(settings, "core show channels concise")
    assert pbx.up(settings).pid == first.pid
    assert pbx.down(settings)
    assert not pbx.status(settings).running
    assert not pbx.down(settings)
    assert pbx.up(settings).pid != first.pid
    assert pbx.down(settings)


def test_two_run_side_by_side(live_pbx: Settings, live_settings: Callable[..., Settings]) -> None:
    other = live_settings(extension="555")
    pbx.up(other)
    assert pbx.status(live_pbx).running
    assert "'555'" in pbx.console(other, "dialplan show phones")
    assert "'100'" in pbx.console(live_pbx, "dialplan show phones")
    pbx.down(other)
    assert pbx.status(live_pbx).running


def test_it_starts_without_a_warning(live_pbx: Settings) -> None:
    log = pbx.directory(live_pbx) / "log" / "console.log"
    started = log.read_text().partition("Asterisk Ready")[0]
    assert "WARNING" not in started
    assert "ERROR" not in started


def test_every_module_of_the_list_runs(live_pbx: Settings) -> None:
    listed = (pbx.SOURCE / "modules.conf").read_text()
    wanted = {line.split("= ")[1] for line in listed.splitlines() if line.startswith("load =")}
    shown = pbx.console(live_pbx, "module show").splitlines()
    running = {line.split()[0] for line in shown if "Running" in line and "Not Running" not in line}
    assert wanted <= running


def test_the_dialplan_uses_only_what_is_loaded(live_pbx: Settings) -> None:
    dialplan = (pbx.SOURCE / "extensions.conf").read_text()
    dialplan = re.sub(r"^;.*", "", dialplan, flags=re.MULTILINE)
    applications = set(re.findall(r"(?:,|\?)([A-Z]\w+)\(", dialplan))
    functions = set(re.findall(r"\$\{([A-Z0-9]+)\(", dialplan)) | {"CALLERID"}
    known = {
        line.split(":")[0].strip()
        for line in pbx.console(live_pbx, "core show applications").splitlines()
    }
    assert {"Playback", "ExecIf"} <= applications <= known
    shown = pbx.console(live_pbx, "core show functions").splitlines()
    assert functions <= {line.split()[0] for line in shown if line}


def test_everything_listens_on_the_loopback_alone(live_pbx: Settings) -> None:
    process = psutil.Process(pbx.status(live_pbx).pid)
    sockets = process.net_connections("inet")
    tcp = {each.laddr for each in sockets if each.status == psutil.CONN_LISTEN}
    where = live_pbx.asterisk
    # The manager's, and the HTTP server's through which browsers are telephones.
    assert tcp == {("127.0.0.1", where.ami_port), ("127.0.0.1", where.http_port)}
    # The two other UDP sockets, on ports of the kernel's choice, are the DNS client's.
    sip = [each.laddr.ip for each in sockets if each.laddr.port == live_pbx.asterisk.sip_port]
    assert sip == ["127.0.0.1"]


def test_a_taken_port_is_said_in_one_line(live_settings: Callable[..., Settings]) -> None:
    settings = live_settings()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", settings.asterisk.sip_port))
        with pytest.raises(TelephonyError) as caught:
            pbx.up(settings)
    assert str(caught.value) == (
        f"port {settings.asterisk.sip_port} is taken: Address already in use on 127.0.0.1; "
        "set asterisk.sip_port to a free one"
    )


async def test_the_manager_password(live_pbx: Settings) -> None:
    where = live_pbx.asterisk
    wrong = Ami(where.ami_host, where.ami_port, where.ami_user, "wrong")
    with pytest.raises(TelephonyError) as caught:
        await wrong.start()
    assert str(caught.value) == (
        "Asterisk refused the manager password for user hotline at "
        f"127.0.0.1:{where.ami_port}: Authentication failed"
    )


async def test_the_manager_link_survives_a_restart_of_asterisk(
    live_settings: Callable[..., Settings],
) -> None:
    settings = live_settings()
    pbx.up(settings)
    link = manager(settings)
    await link.start()
    try:
        pbx.down(settings)
        async with asyncio.timeout(15):
            while link.connected:
                await asyncio.sleep(0.02)
        pbx.up(settings)
        async with asyncio.timeout(15):
            while not link.connected:
                await asyncio.sleep(0.02)
        assert (await link.action("CoreStatus")).fields["CoreCurrentCalls"] == "0"
    finally:
        await link.stop()
