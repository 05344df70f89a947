"""Brings a database's schema to the one this version of the hotline was written for.

Alembic runs from here, on a connection of ours and inside its transaction: there is no alembic.ini,
and a migration that fails, or a second server that starts at the same moment, leaves no half-made
schema behind. A revision is a file in `versions/`, written by hand; a test compares what they make
with `ivr.store.models`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from ivr.errors import StoreError

_LOCK = 0x686F746C696E65  # any number that no other program on the same database is likely to take


def upgrade(db: Connection, place: str) -> None:
    """Run the revisions that are missing. Raises StoreError for a schema newer than this code."""
    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = _config(db)
    if not _current(db, config, place):
        command.upgrade(config, "head")


def check(db: Connection, place: str) -> None:
    """Refuse, with a StoreError, a schema that is not the one this code was written for."""
    if not _current(db, _config(db), place):
        raise StoreError(
            f"{place}: its schema is older than this hotline; run `hotline db upgrade`"
        )


def _config(db: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = db
    return config


def _current(db: Connection, config: Config, place: str) -> bool:
    scripts = ScriptDirectory.from_config(config)
    ours = {script.revision for script in scripts.walk_revisions()}
    there = set(MigrationContext.configure(db).get_current_heads())
    if unknown := sorted(there - ours):
        raise StoreError(
            f"{place}: its schema ({', '.join(unknown)}) is newer than this hotline; "
            "install the version that made it, or restore a backup from before"
        )
    return there == set(scripts.get_heads())
