"""Keeps secret slots out of the database: they are stored sealed, and the key lies elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from ivr.errors import SettingsError


class Sealer:
    """Seals and opens JSON values with one key, made at first use and readable by us alone.

    Servers that share a database share this file too. Whoever has the database but not the file
    has no secret; without the file a conversation goes on, and asks for its secrets again.
    """

    def __init__(self, path: Path):
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = path.with_suffix(f".{os.getpid()}")
                draft.touch(mode=0o600)
                draft.write_bytes(Fernet.generate_key())
                try:
                    os.link(draft, path)  # the first of two that start at once wins
                except FileExistsError:
                    pass
                finally:
                    draft.unlink()
            self._fernet = Fernet(path.read_bytes().strip())
        except (OSError, ValueError) as error:
            raise SettingsError(f"the key file {path} cannot be used: {error}") from None

    def seal(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with its `secrets` sealed, where it has any."""
        secrets = state["secrets"]
        if not any(secrets):
            return dict(state)
        return {**state, "secrets": self._fernet.encrypt(json.dumps(secrets).encode()).decode()}

    def open(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `seal`; secrets that cannot be opened are forgotten."""
        secrets = state["secrets"]
        if isinstance(secrets, str):
            try:
                secrets = json.loads(self._fernet.decrypt(secrets.encode()))
            except InvalidToken:
                secrets = [{} for _ in state["frames"]]
        return {**state, "secrets": secrets}
