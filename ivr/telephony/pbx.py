"""A PBX of one's own, so that a newcomer hears the hotline minutes after cloning it.

It is the Asterisk on the PATH, or Debian's in a folder of the cache; it runs on `deploy/asterisk`,
the very files that a site includes, with what differs from site to site rendered into `hotline.d`.
Everything of one instance lives under `<state_dir>/asterisk`, so several run side by side.

All functions block, for seconds at most (`provide` for minutes, once): call them before the loop
runs or in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ivr.config import Settings
from ivr.errors import SettingsError, TelephonyError
from ivr.telephony import pbx_debian, punctual
from ivr.telephony.pbx_debian import OLDEST, Asterisk

AGENT_PHONES = tuple(str(number) for number in range(1001, 1021))
ROBOT_PHONES = tuple(str(number) for number in range(9001, 9011))

WEB_PREFIX = "w"
"""An agent's telephone in the browser is w and the extension."""

SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "asterisk"
_BOOT_SECONDS = 30.0
# Files that Asterisk misses loudly, though their defaults are right for us. A site has its own.
_DEFAULTS_WILL_DO = {
    "acl.conf": "",
    "ccss.conf": "[general]\n",
    "features.conf": "[general]\n",
    "pjproject.conf": "",
    "stasis.conf": "[threadpool]\ninitial_size = 5\n",
    "udptl.conf": "[general]\n",
}
_STOP_SECONDS = 8.0
_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets of one instance, made at its first start. `seed` makes the phones' passwords."""

    ami_secret: str
    seed: str

    def phone(self, extension: str) -> str:
        """The SIP password of one phone."""
        return hmac.new(self.seed.encode(), extension.encode(), hashlib.sha256).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class PbxStatus:
    """Whether the local PBX runs; `pid` is 0 when it does not."""

    running: bool
    pid: int
    directory: Path
    sip: str
    ami: str


def provide(settings: Settings, progress: Callable[[str], None]) -> Asterisk:
    """Find an Asterisk, or fetch Debian's into the cache. Raises TelephonyError with the remedy."""
    found = pbx_debian.on_path()
    if found is not None:
        return found
    folder = settings.cache / "asterisk"
    if pbx_debian.complete(folder):
        return pbx_debian.in_folder(folder)
    reason = pbx_debian.obstacle()
    if reason:
        root = directory(settings)
        raise TelephonyError(
            f"no Asterisk {OLDEST} or newer: none on the PATH, and {reason}. Or use Docker: "
            f"docker run --rm --network host -v {root}:{root} debian:forky sh -c "
            f"'apt-get update && apt-get install -y asterisk && "
            f"asterisk -f -C {root}/etc/asterisk.conf' (after `hotline pbx config`)"
        )
    return pbx_debian.fetch(folder, progress)


def directory(settings: Settings) -> Path:
    """Where the instance of these settings lives. Raises SettingsError for an unusable path."""
    root = settings.state_dir.expanduser().resolve() / "asterisk"
    if not re.fullmatch(r"[\w/.+ @-]+", str(root)):
        raise SettingsError(f"setting state_dir: Asterisk cannot use the path {str(root)!r}")
    if len(str(root / "run" / "asterisk.ctl").encode()) > _LONGEST_SOCKET_PATH:
        raise SettingsError(f"setting state_dir: {root} is too long for Asterisk's control socket")
    return root


def credentials(settings: Settings) -> Credentials:
    """Read this instance's secrets, or make them. `asterisk.ami_secret` wins where it is set."""
    path = directory(settings) / "credentials.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = {"ami_secret": secrets.token_hex(16), "seed": secrets.token_hex(16)}
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(fresh))
        try:
            os.link(draft, path)  # the first of two that start at once wins
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    try:
        stored = json.loads(path.read_text())
        kept = Credentials(ami_secret=stored["ami_secret"], seed=stored["seed"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} is damaged: delete it and new secrets are made") from None
    return Credentials(settings.asterisk.ami_secret or kept.ami_secret, kept.seed)


def config(settings: Settings) -> Path:
    """Render the configuration of this instance; returns the folder for `asterisk -C`."""
    return _configure(settings, None)


def _configure(settings: Settings, asterisk: Asterisk | None) -> Path:
    if not (SOURCE / "extensions.conf").is_file():
        raise SettingsError(f"{SOURCE} is missing: run the local PBX from a checkout")
    root = directory(settings)
    etc = root / "etc"
    for name in ("etc/hotline.d", "run", "log", "spool", "lib/keys", "cache", "sounds"):
        (root / name).mkdir(parents=True, exist_ok=True)
    etc.chmod(0o700)
    for source in SOURCE.glob("*.conf"):
        shutil.copyfile(source, etc / source.name)
    for name, text in _DEFAULTS_WILL_DO.items():
        (etc / name).write_text(text)
    shutil.copytree(SOURCE / "sounds", root / "sounds", dirs_exist_ok=True)
    keys = credentials(settings)
    parts = fragments(settings, keys.ami_secret, keys.phone, str(root / "sounds"))
    for name, text in parts.items():
        (etc / "hotline.d" / name).write_text(text)
    (etc / "asterisk.conf").write_text(_asterisk_conf(root, asterisk))
    return etc


def fragments(
    settings: Settings, ami_secret: str, password: Callable[[str], str], sounds: str
) -> dict[str, str]:
    """What differs from site to site: the files of `hotline.d`, by name."""
    pbx = settings.asterisk
    nodes = "&".join((f"{pbx.agi_host}:{pbx.agi_port}", *pbx.nodes))
    permitted = dict.fromkeys(("127.0.0.1", pbx.ami_host))
    return {
        "globals.conf": _lines(
            "; Where the hotline is, for the dialplan. Several nodes are separated by &.",
            HOTLINE_NODES=nodes,
            HOTLINE_EXTENSION=pbx.extension,
            HOTLINE_FALLBACK=pbx.fallback,
            HOTLINE_PATIENCE="60",
            HOTLINE_SOUNDS=sounds,
        ),
        "manager.conf": _lines(
            "; Where the manager interface listens.", bindaddr=pbx.ami_host, port=str(pbx.ami_port)
        ),
        "manager_user.conf": _lines(
            "; The hotline's user, and from where it may come.",
            f"[{_value(pbx.ami_user)}](hotline-user)",
            "deny = 0.0.0.0/0.0.0.0",
            *(f"permit = {_value(host)}/255.255.255.255" for host in permitted),
            secret=ami_secret,
        ),
        "music.conf": _lines("; Where the music is.", directory=f"{sounds}/music"),
        "parking.conf": _lines(
            "; Seconds until a parked caller is put through to the hotline again.",
            parkingtime=str(pbx.parking_seconds),
        ),
        "rtp.conf": _lines(
            "; Ports of the telephones' audio.",
            rtpstart=str(pbx.rtp_start),
            rtpend=str(pbx.rtp_end),
        ),
        "transport.conf": _lines(
            "; Where SIP listens.",
            "[hotline-udp]",
            "type = transport",
            "protocol = udp",
            bind=f"{pbx.sip_host}:{pbx.sip_port}",
        ),
        "http.conf": _lines(
            "; Where telephones in browsers come to, by way of the hotline.",
            enabled="yes" if pbx.http_port else "no",
            bindaddr=pbx.ami_host,
            bindport=str(pbx.http_port or 8088),
        ),
        "phones.conf": "; One paragraph a telephone: agents' desk phones, then robots.\n"
        + "".join(_phone(number, "agent", "phone-aor", password) for number in AGENT_PHONES)
        + "".join(
            _phone(WEB_PREFIX + number, "web-agent", "web-aor", password) for number in AGENT_PHONES
        )
        + "".join(_phone(number, "robot", "robot-aor", password) for number in ROBOT_PHONES),
    }


def _phone(number: str, endpoint: str, aor: str, password: Callable[[str], str]) -> str:
    shown = number.removeprefix(WEB_PREFIX)
    return (
        f"\n[{number}]({endpoint})\nauth = {number}\naors = {number}\n"
        f'callerid = "{shown}" <{shown}>\n'
        f"[{number}](phone-auth)\nusername = {number}\npassword = {_value(password(number))}\n"
        f"[{number}]({aor})\n"
    )


def _lines(*heading: str, **values: str) -> str:
    body = [f"{name} = {_value(value)}".rstrip() for name, value in values.items()]
    return "\n".join((*heading, *body)) + "\n"


def _value(text: str) -> str:
    if not text.isprintable():
        raise SettingsError(f"setting asterisk: {text!r} cannot stand in a configuration file")
    return text.replace(";", "\\;")


def _asterisk_conf(root: Path, asterisk: Asterisk | None) -> str:
    places = {
        "astetcdir": root / "etc",
        "astvarlibdir": root / "lib",
        "astdbdir": root / "lib",
        "astkeydir": root / "lib",
        "astcachedir": root / "cache",
        "astspooldir": root / "spool",
        "astrundir": root / "run",
        "astlogdir": root / "log",
    }
    if asterisk is not None:
        places |= asterisk.places
    listed = "".join(f"{name} => {path}\n" for name, path in places.items())
    return f"[directories]\n{listed}\n[options]\nnocolor = yes\nhideconnect = yes\n"


# --- running ----------------------------------------------------------------------------------


def up(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> PbxStatus:
    """Start this instance and wait until it takes calls; one that is up already is left alone.

    Raises TelephonyError in one line when a port is taken or Asterisk does not start.
    """
    with _alone(settings):
        if _pid(settings):
            return status(settings)
        asterisk = provide(settings, progress)
        etc = _configure(settings, asterisk)
        _check_ports(settings)
        started = time.monotonic()
        log = etc.parent / "log" / "console.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 (our own command)
                [*asterisk.command, "-f", "-C", str(etc / "asterisk.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=etc.parent,
            )
        (etc.parent / "run" / "hotline.pid").write_text(str(process.pid))
        while not _booted(settings, asterisk):
            if process.poll() is not None:
                raise TelephonyError(
                    f"Asterisk ended while starting: {_last_words(log)} (see {log})"
                )
            if time.monotonic() - started > _BOOT_SECONDS:
                process.kill()
                process.wait()
                raise TelephonyError(f"Asterisk was not ready after {_BOOT_SECONDS:.0f} s: {log}")
            time.sleep(0.05)
        punctual.let_first(process.pid)
        progress(f"Asterisk {asterisk.version} is up after {time.monotonic() - started:.1f} s")
        return status(settings)


def down(settings: Settings) -> bool:
    """Stop this instance, gracefully if it listens; False when it was not running."""
    with _alone(settings):
        pid = _pid(settings)
        if not pid:
            return False
        process = psutil.Process(pid)
        try:
            process.terminate()  # Asterisk hangs up what is left and goes
            process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
        except psutil.NoSuchProcess:
            pass
        (directory(settings) / "run" / "hotline.pid").unlink(missing_ok=True)
        return True


def status(settings: Settings) -> PbxStatus:
    """Look whether this instance runs."""
    pid = _pid(settings)
    pbx = settings.asterisk
    return PbxStatus(
        running=bool(pid),
        pid=pid,
        directory=directory(settings),
        sip=f"{pbx.sip_host}:{pbx.sip_port}",
        ami=f"{pbx.ami_host}:{pbx.ami_port}",
    )


def console(settings: Settings, command: str) -> str:
    """Run one command of Asterisk's console (`core show channels`) and return what it prints."""
    return _console(settings, provide(settings, lambda line: None), command)


def _console(settings: Settings, asterisk: Asterisk, command: str) -> str:
    done = subprocess.run(  # noqa: S603 (our own command)
        [*asterisk.command, "-C", str(directory(settings) / "etc/asterisk.conf"), "-rx", command],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_BOOT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise TelephonyError(f"the local PBX does not answer: {done.stdout.strip()}")
    return done.stdout


def _booted(settings: Settings, asterisk: Asterisk) -> bool:
    if not (directory(settings) / "run" / "asterisk.ctl").is_socket():
        return False
    try:
        return "fully booted" in _console(settings, asterisk, "core waitfullybooted")
    except TelephonyError:
        return False  # the socket of an earlier run, or not listening yet


def _pid(settings: Settings) -> int:
    root = directory(settings)
    try:
        pid = int((root / "run" / "hotline.pid").read_text())
        process = psutil.Process(pid)
        # A pid is used again after a reboot: only our own command line makes it ours.
        ours = str(root / "etc" / "asterisk.conf") in process.cmdline()
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else 0
    except (OSError, ValueError, psutil.Error):
        return 0


def _check_ports(settings: Settings) -> None:
    pbx = settings.asterisk
    wanted = (
        ("sip_port", socket.SOCK_DGRAM, pbx.sip_host, pbx.sip_port),
        ("ami_port", socket.SOCK_STREAM, pbx.ami_host, pbx.ami_port),
        *(
            (("http_port", socket.SOCK_STREAM, pbx.ami_host, pbx.http_port),)
            if pbx.http_port
            else ()
        ),
    )
    for key, kind, host, port in wanted:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise TelephonyError(
                    f"port {port} is taken: {error.strerror} on {host}; "
                    f"set asterisk.{key} to a free one"
                ) from None


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or ["it said nothing"])[-1]


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    root = directory(settings)
    root.mkdir(parents=True, exist_ok=True)
    with pbx_debian.locked(root / "lock"):
        yield
