"""The threads of text conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0006_messages"
down_revision = "0005_works"


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.String(80), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("who", sa.String(16), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("text", sa.String(20_000), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=True),
        sa.Column("file", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("conversation_id", "number", name=op.f("pk_messages")),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_messages_conversation_id"),
        ),
    )
    op.create_index(
        op.f("ix_messages_conversation_id_who_author_id"),
        "messages",
        ["conversation_id", "who", "author", "id"],
        unique=True,
    )
    op.create_index(op.f("ix_legs_channel_address"), "legs", ["channel", "address"], unique=False)
