"""The local PBX without an Asterisk: what is rendered, where it comes from, what is refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ivr.config import AsteriskSettings, Settings
from ivr.errors import SettingsError, TelephonyError
from ivr.telephony import pbx, pbx_debian


def settings(folder: Path, **asterisk: object) -> Settings:
    return Settings(
        state_dir=folder / "var",
        cache_dir=folder / "cache",
        asterisk=AsteriskSettings.model_validate(asterisk),
    )


def script(path: Path, body: str) -> Path:
    """A program that stands in for a real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on the PATH, besides the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    which = pbx_debian.shutil.which
    monkeypatch.setattr(
        pbx_debian.shutil, "which", lambda name, path=None: which(name, path=str(folder))
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path is short enough for a socket."""
    return tmp_path_factory.mktemp("x")


# --- configuration -------------------------------------------------------------------------------


def test_the_examples_are_what_the_defaults_render() -> None:
    rendered = pbx.fragments(
        Settings(), "change-me", lambda number: "change-me", "/usr/share/asterisk/hotline"
    )
    folder = pbx.SOURCE / "hotline.d"
    assert {path.name: path.read_text() for path in folder.iterdir()} == rendered


def test_every_include_is_rendered(short: Path) -> None:
    etc = pbx.config(settings(short))
    for path in etc.glob("*.conf"):
        for line in path.read_text().splitlines():
            if line.startswith("#include"):
                assert (etc / line.split('"')[1]).is_file(), (path.name, line)


def test_ports_and_names_come_from_the_settings(short: Path) -> None:
    etc = pbx.config(
        settings(
            short,
            ami_port=20001,
            ami_user="watcher",
            ami_secret="a;b",
            agi_port=20002,
            sip_port=20003,
            rtp_start=20100,
            rtp_end=20199,
            extension="555",
            nodes=("10.0.0.2:4573",),
            fallback="1001",
        )
    )
    texts = {path.name: path.read_text() for path in (etc / "hotline.d").iterdir()}
    assert "port = 20001" in texts["manager.conf"]
    assert "[watcher](hotline-user)" in texts["manager_user.conf"]
    assert "secret = a\\;b" in texts["manager_user.conf"]
    assert "HOTLINE_NODES = 127.0.0.1:20002&10.0.0.2:4573" in texts["globals.conf"]
    assert "HOTLINE_EXTENSION = 555" in texts["globals.conf"]
    assert "HOTLINE_FALLBACK = 1001" in texts["globals.conf"]
    assert "bind = 127.0.0.1:20003" in texts["transport.conf"]
    assert "rtpstart = 20100\nrtpend = 20199" in texts["rtp.conf"]


def test_secrets_are_made_once_for_this_instance_and_kept_private(short: Path) -> None:
    first, second = settings(short / "a"), settings(short / "b")
    made = pbx.credentials(first)
    assert pbx.credentials(first) == made
    assert pbx.credentials(second).ami_secret != made.ami_secret
    assert made.phone("1001") != made.phone("1002")
    kept = pbx.directory(first) / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    etc = pbx.config(first)
    assert stat.S_IMODE(etc.stat().st_mode) == 0o700
    assert f"password = {made.phone('1001')}" in (etc / "hotline.d/phones.conf").read_text()
    assert pbx.credentials(settings(short / "a", ami_secret="mine")).ami_secret == "mine"
    kept.write_text("{")
    with pytest.raises(SettingsError, match="is damaged: delete it"):
        pbx.credentials(first)


@pytest.mark.parametrize("secret", ["a\nb", "a\rb", "a\0b"])
def test_a_setting_is_never_another_line(short: Path, secret: str) -> None:
    with pytest.raises(SettingsError, match="cannot stand in a configuration file"):
        pbx.config(settings(short, ami_secret=secret))


@pytest.mark.parametrize(("name", "reason"), [("a,b", "cannot use"), ("x" * 200, "too long")])
def test_a_folder_that_asterisk_cannot_use_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(SettingsError, match=f"setting state_dir: .*{reason}"):
        pbx.config(settings(tmp_path / name))


def test_every_sentence_is_there_in_every_language() -> None:
    used = {"hold", "sorry", "invalid"}
    dialplan = (pbx.SOURCE / "extensions.conf").read_text()
    assert all(f"${{HOTLINE_SOUNDS}}/{name}" in dialplan for name in used)
    for language in ("en", "zh"):
        folder = pbx.SOURCE / "sounds" / language
        assert {path.stem for path in folder.iterdir() if path.stat().st_size > 8000} == used


# --- where an Asterisk comes from ----------------------------------------------------------------


def test_a_new_enough_asterisk_on_the_path_is_taken(programs: Path, short: Path) -> None:
    binary = script(programs / "asterisk", "echo Asterisk 20.9.3~dfsg")
    found = pbx.provide(settings(short), lambda line: None)
    assert (found.command, found.version) == ((str(binary),), "20.9.3")
    assert not found.places


def test_an_old_one_is_not(programs: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(programs / "asterisk", "echo Asterisk 16.28.0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TelephonyError) as caught:
        pbx.provide(settings(short), lambda line: None)
    message = str(caught.value)
    assert message.startswith("no Asterisk 18 or newer: none on the PATH, and unpacking Debian's")
    assert "needs root" in message
    assert "docker run" in message
    assert "\n" not in message


def test_a_binary_that_does_not_run_is_said_so(programs: Path, short: Path) -> None:
    script(programs / "asterisk", "echo what; exit 1")
    with pytest.raises(TelephonyError, match="does not say its version: 'what'"):
        pbx.provide(settings(short), lambda line: None)


UNPACK = """
for word; do case $word in /*partial) folder=$word;; esac; done
lib=$folder/usr/lib/x86_64-linux-gnu
mkdir -p $lib/asterisk/modules $folder/usr/sbin $folder/usr/share/asterisk/sounds
mkdir -p $folder/var/cache/apt/archives
touch $lib/asterisk/modules/res_agi.so $folder/usr/sbin/asterisk
touch $folder/var/cache/apt/archives/x.deb
printf '#!/bin/sh\\necho Asterisk 22.1.0\\n' > $lib/ld-linux-x86-64.so.2
chmod +x $lib/ld-linux-x86-64.so.2
echo "$@" > $folder/asked
"""


@pytest.fixture
def debian(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that can unpack Debian's; returns its debootstrap."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pbx_debian, "_SCRIPTS", tmp_path)
    (tmp_path / "sid").touch()
    script(programs / "apt-get", "echo http://security.test/debian-security https://m.test/debian/")
    script(programs / "apt-config", "echo 'Acquire::http::Proxy \"http://proxy.test:3128\";'")
    return script(
        programs / "debootstrap", UNPACK + "echo I: Base system installed; env > $folder/e"
    )


def test_debians_is_unpacked_once_from_apts_mirror(debian: Path, short: Path) -> None:
    said: list[str] = []
    found = pbx.provide(settings(short), said.append)
    folder = short / "cache" / "asterisk"
    assert found.version == "22.1.0"
    assert found.places["astdatadir"] == folder / "usr/share/asterisk"
    assert "https://m.test/debian " in (folder / "asked").read_text()
    assert "http_proxy=http://proxy.test:3128" in (folder / "e").read_text()
    assert not list(folder.glob("var/cache/apt/archives/*.deb"))
    assert "https://m.test/debian" in said[0]
    debian.unlink()
    assert pbx.provide(settings(short), said.append) == found


def test_an_interrupted_attempt_starts_over(debian: Path, short: Path) -> None:
    good = debian.read_text()
    script(debian, UNPACK + "echo E: no such mirror; exit 1")
    with pytest.raises(TelephonyError, match=r"could not be unpacked .*E: no such mirror"):
        pbx.provide(settings(short), lambda line: None)
    assert not (short / "cache" / "asterisk").exists()
    (short / "cache" / "asterisk.partial" / "rubbish").touch()
    debian.write_text(good)
    pbx.provide(settings(short), lambda line: None)
    assert not (short / "cache" / "asterisk" / "rubbish").exists()
    assert not (short / "cache" / "asterisk.partial").exists()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- running -------------------------------------------------------------------------------------


def test_an_asterisk_that_ends_while_starting_is_quoted(programs: Path, short: Path) -> None:
    script(
        programs / "asterisk",
        'case "$*" in *-V*) echo Asterisk 22.0.0;; *) echo "ERROR: no such module"; exit 1;; esac',
    )
    mine = settings(short, sip_port=free_port(socket.SOCK_DGRAM), ami_port=free_port())
    with pytest.raises(TelephonyError, match=r"ended while starting: ERROR: no such module \(see"):
        pbx.up(mine)
    assert not pbx.status(mine).running


@pytest.mark.parametrize("key", ["sip_port", "ami_port"])
def test_a_taken_port_is_named_before_anything_starts(
    programs: Path, short: Path, key: str
) -> None:
    script(programs / "asterisk", "echo Asterisk 22.0.0")
    kind = socket.SOCK_DGRAM if key == "sip_port" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        ports = {"sip_port": free_port(socket.SOCK_DGRAM), "ami_port": free_port()} | {key: port}
        with pytest.raises(TelephonyError, match=f"port {port} is taken: .* set asterisk.{key}"):
            pbx.up(settings(short, **ports))


def test_the_pid_of_somebody_else_is_left_alone(short: Path) -> None:
    mine = settings(short)
    pbx.config(mine)
    pid = pbx.directory(mine) / "run" / "hotline.pid"
    for text in (str(os.getpid()), "999999999", "rubbish", ""):
        pid.write_text(text)
        assert not pbx.status(mine).running
        assert not pbx.down(mine)
