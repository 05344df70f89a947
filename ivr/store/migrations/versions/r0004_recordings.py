"""Recordings of calls and messages."""

import sqlalchemy as sa
from alembic import op

revision = "0004_recordings"
down_revision = "0003_touched"


def upgrade() -> None:
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("conversation_id", sa.String(80), nullable=False),
        sa.Column("leg_id", sa.String(80), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("place", sa.String(80), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    op.create_index(
        op.f("ix_recordings_conversation_id"), "recordings", ["conversation_id"], unique=False
    )
    op.create_index(
        op.f("ix_recordings_place_started_at"), "recordings", ["place", "started_at"], unique=False
    )
