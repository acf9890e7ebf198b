"""Looks of watches."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    from alembic import op

    op.create_table(
        "looks",
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("standings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", "time", name="pk_looks"),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_looks_rollout_id"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the table; a replay of the source can tell the looks again."""
    from alembic import op

    op.drop_table("looks")
