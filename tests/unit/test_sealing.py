"""Servers that share a key file read each other's secrets, from the first moment on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivr.sealing import Sealer


def test_two_servers_that_start_at_once_use_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter((False, False))
    monkeypatch.setattr(Path, "exists", lambda path: next(looks, True))
    first, second = Sealer(tmp_path / "key"), Sealer(tmp_path / "key")
    sealed = first.seal({"secrets": [{"pin": "1234"}], "frames": [1]})
    assert second.open(sealed)["secrets"] == [{"pin": "1234"}]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
