"""Where an Asterisk comes from: the PATH, or Debian's packages unpacked into a folder of the cache.

The folder needs no chroot: its own dynamic loader runs its binary with its libraries, so that the
PBX sees the host's files and runs as an ordinary user. Only unpacking it asks for root.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ivr.errors import TelephonyError

OLDEST = 18
_SUITE = "forky"  # Debian 12 and 13 have no Asterisk; this is the first that has it again
_PACKAGES = "asterisk,asterisk-core-sounds-en-wav,ca-certificates"
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_PROGRESS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Asterisk:
    """An Asterisk that can be started: its command, and directories that it must be told."""

    command: tuple[str, ...]
    version: str
    places: Mapping[str, Path] = field(default_factory=dict)


def on_path() -> Asterisk | None:
    """The machine's own Asterisk, if it is new enough."""
    binary = shutil.which("asterisk", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        return None
    version = _version((binary,))
    if int(version.partition(".")[0]) < OLDEST:
        return None
    return Asterisk((binary,), version)


def complete(folder: Path) -> bool:
    """Whether the folder holds an Asterisk that was unpacked to the end."""
    return (folder / "usr/sbin/asterisk").is_file() and _library_folder(folder) is not None


def in_folder(folder: Path) -> Asterisk:
    """Debian's Asterisk, unpacked."""
    libraries = _library_folder(folder)
    assert libraries is not None
    loader = next(iter(sorted(libraries.glob("ld-linux*.so*"))), None)
    if loader is None:
        raise TelephonyError(f"{folder} has no dynamic loader: delete it and it is fetched again")
    command = (
        str(loader),
        "--inhibit-cache",
        "--library-path",
        str(libraries),
        str(folder / "usr/sbin/asterisk"),
    )
    places = {
        "astmoddir": libraries / "asterisk" / "modules",
        "astdatadir": folder / "usr/share/asterisk",
    }
    return Asterisk(command, _version(command), places)


def obstacle() -> str:
    """Why Debian's Asterisk cannot be unpacked here; empty when it can."""
    if os.geteuid() != 0:
        return "unpacking Debian's needs root (once)"
    if shutil.which("debootstrap") is None:
        return "unpacking Debian's needs debootstrap (apt-get install debootstrap)"
    return ""


def fetch(folder: Path, progress: Callable[[str], None]) -> Asterisk:
    """Unpack Debian's Asterisk. An interrupted attempt leaves nothing that looks complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(folder.name + ".lock")):
        if not complete(folder):  # somebody else may have been faster
            _debootstrap(folder, progress)
    return in_folder(folder)


def _debootstrap(folder: Path, progress: Callable[[str], None]) -> None:
    started = time.monotonic()
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    mirror = _mirror()
    script = next(path for path in (_SCRIPTS / _SUITE, _SCRIPTS / "sid") if path.exists())
    progress(f"  0 s  fetching Debian's Asterisk from {mirror} (once; about a minute, 400 MB)")
    last, said = 0.0, ""
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}"]
    command += [_SUITE, str(draft), mirror, str(script)]
    with subprocess.Popen(  # noqa: S603 (our own command)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | _proxy(),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = line.strip().removeprefix("I: ")
            elapsed = time.monotonic() - started
            if elapsed - last >= _PROGRESS_SECONDS:
                progress(f"{elapsed:3.0f} s  {said}")
                last = elapsed
    if process.returncode:
        raise TelephonyError(
            f"Debian's Asterisk could not be unpacked from {mirror}: {said or 'no reason given'} "
            f"(see {draft}/debootstrap/debootstrap.log)"
        )
    for package in (draft / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    if not complete(draft):
        raise TelephonyError(f"Debian's packages from {mirror} hold no Asterisk in {draft}")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    progress(f"{time.monotonic() - started:3.0f} s  Debian's Asterisk is in {folder}")


def _library_folder(folder: Path) -> Path | None:
    modules = next(iter(sorted(folder.glob("usr/lib/*/asterisk/modules/res_agi.so"))), None)
    return modules.parents[2] if modules else None


def _version(command: tuple[str, ...]) -> str:
    try:
        said = subprocess.run(  # noqa: S603 (our own command)
            [*command, "-V"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TelephonyError(f"{command[-1]} does not run: {error}") from None
    match = re.match(r"Asterisk (?:certified[/-])?(\d+(?:\.\d+)*)", said)
    if match is None:
        raise TelephonyError(f"{command[-1]} does not say its version: {said.strip()!r}")
    return match[1]


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses. Raises TelephonyError where it has none."""
    listed = _apt("apt-get", "indextargets", "--format", "$(REPO_URI)")
    for uri in listed.split():
        if re.fullmatch(r"https?://\S+/debian/?", uri):
            return uri.rstrip("/")
    raise TelephonyError(
        "apt on this machine names no Debian mirror to fetch Asterisk from: run apt-get update, or "
        "add one to /etc/apt/sources.list, or install an Asterisk 18 or newer yourself"
    )


def _proxy() -> dict[str, str]:
    """apt's proxy, which debootstrap's wget does not know of."""
    match = re.search(
        r'"(http[^"]+)"', _apt("apt-config", "dump", "--no-empty", "Acquire::http::Proxy")
    )
    return {"http_proxy": match[1]} if match else {}


def _apt(*command: str) -> str:
    try:
        return subprocess.run(  # noqa: S603 (our own command)
            command, capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""  # not a Debian: the public mirror will do


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock, so that two commands started at once do one thing after the other."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
