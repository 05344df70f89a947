"""Published versions of flows, and which callers get which."""

import sqlalchemy as sa
from alembic import op

revision = "0002_releases"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("flow", sa.String(255), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("note", sa.String(4000), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["flows.version"], name=op.f("fk_releases_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
    )
    op.create_index(op.f("ix_releases_flow"), "releases", ["flow"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("flow", sa.String(255), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["flows.version"], name=op.f("fk_rollouts_version")),
        sa.PrimaryKeyConstraint("flow", name=op.f("pk_rollouts")),
    )
