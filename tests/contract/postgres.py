"""A PostgreSQL cluster for the length of a test run, in a temporary folder and on loopback."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Cluster:
    """Where the cluster listens; its superuser is `hotline`."""

    port: int
    password: str

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://hotline:{self.password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Make, start, and afterwards stop and remove it. Skips where PostgreSQL is not installed."""
    binaries = _binaries()
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="hotline-pg-"))
    try:
        password = folder / "password"
        password.write_text("correct horse\n")
        if user != getpass.getuser():
            shutil.chown(folder, user)
            shutil.chown(password, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(
                command,
                check=True,
                user=user if os.geteuid() == 0 else None,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

        run(
            "initdb", "--no-sync", "--username=hotline", f"--pwfile={password}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Cluster(port, "correct%20horse")
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    reason = "PostgreSQL's server is not installed: apt-get install postgresql"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _user() -> str:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
