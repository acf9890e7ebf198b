"""How past rollouts really went, as people say it afterwards."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; no rollout has a label yet."""
    from alembic import op

    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=10), nullable=False),
        sa.Column("onset", sa.DateTime(timezone=True), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_labels_rollout_id"),
    )
    op.create_index("ix_labels_rollout_id", "labels", ["rollout_id"])


def downgrade() -> None:
    """Drop what version 0008 does not know."""
    from alembic import op

    op.drop_index("ix_labels_rollout_id", table_name="labels")
    op.drop_table("labels")
