"""Stages of a rollout's ramp."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    from alembic import op

    op.create_table(
        "stages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stages"),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_stages_rollout_id"),
        sa.UniqueConstraint("rollout_id", "stage", name="uq_stages_rollout_id"),
    )


def downgrade() -> None:
    """Drop the table and when which stage began."""
    from alembic import op

    op.drop_table("stages")
