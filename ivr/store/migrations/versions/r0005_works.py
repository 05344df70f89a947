"""One queue for calls and texts: what kind, how far with its agent, and on whose server."""

import sqlalchemy as sa
from alembic import op

revision = "0005_works"
down_revision = "0004_recordings"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("agents", sa.Column("capacity", sa.JSON(), nullable=True))
    for column in (
        sa.Column("server", sa.String(80), nullable=False, server_default=""),
        sa.Column("reachable", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("free_since", moment, nullable=True),
        sa.Column("alive_until", moment, nullable=True),
    ):
        op.add_column("presences", column)
    for column in (
        sa.Column("kind", sa.String(16), nullable=False, server_default="call"),
        sa.Column("server", sa.String(80), nullable=False, server_default=""),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("stage", sa.String(16), nullable=False, server_default=""),
        sa.Column("reserved", sa.String(255), nullable=False, server_default=""),
        sa.Column("reserved_until", moment, nullable=True),
        sa.Column("from_agent", sa.String(255), nullable=False, server_default=""),
        sa.Column("context", sa.String(4000), nullable=False, server_default=""),
    ):
        op.add_column("tickets", column)
    op.create_index(op.f("ix_tickets_stage"), "tickets", ["stage"], unique=False)
