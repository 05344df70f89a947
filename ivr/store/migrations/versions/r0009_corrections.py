"""What agents correct, contacts that are found by name, and notes that are found by customer."""

import sqlalchemy as sa
from alembic import op

revision = "0009_corrections"
down_revision = "0008_supervision"


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("conversation_id", sa.String(80), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("value", sa.String(4_000), nullable=False),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id", "name", name=op.f("pk_corrections")),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_corrections_conversation_id"),
        ),
    )
    op.add_column(
        "contacts", sa.Column("sought", sa.String(255), nullable=False, server_default="")
    )
    contacts = sa.table("contacts", sa.column("id"), sa.column("name"), sa.column("sought"))
    named = sa.select(contacts.c.id, contacts.c.name).where(contacts.c.name != "")
    for row in op.get_bind().execute(named).all():
        this = sa.update(contacts).where(contacts.c.id == row.id)
        op.execute(this.values(sought=row.name.casefold()[:255]))
    op.create_index(
        "ix_conversations_noted",
        "conversations",
        ["contact_id", "started_at"],
        sqlite_where=sa.text("note <> ''"),
        postgresql_where=sa.text("note <> ''"),
    )
