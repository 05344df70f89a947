"""When a server last had a conversation in hand, so that another knows what a crash left open."""

import sqlalchemy as sa
from alembic import op

revision = "0003_touched"
down_revision = "0002_releases"


def upgrade() -> None:
    op.add_column(
        "conversations", sa.Column("touched_at", sa.DateTime(timezone=True), nullable=True)
    )
