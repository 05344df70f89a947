"""How long each customer was talked with, and until when: the estimates of waits stand on it."""

import sqlalchemy as sa
from alembic import op

revision = "0007_talked"
down_revision = "0006_messages"


def upgrade() -> None:
    op.add_column("tickets", sa.Column("talked", sa.Float(), nullable=True))
    op.add_column("tickets", sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_tickets_ended_at"), "tickets", ["ended_at"], unique=False)
