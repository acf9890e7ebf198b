"""Who watches a rollout, how its traffic may be moved back, and a stage that is being raised."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and tables; rollouts under way have no terms: Airflow alone rolls them back."""
    from alembic import op

    op.add_column("rollouts", sa.Column("rollback_terms", sa.Text(), nullable=True))
    op.add_column("rollouts", sa.Column("stage_write_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("looks", sa.Column("by", sa.String(length=20), nullable=True))
    op.add_column("reviews", sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "watch_heartbeats",
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", name="pk_watch_heartbeats"),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_watch_heartbeats_rollout_id"),
    )
    op.create_table(
        "watch_leases",
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=250), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", name="pk_watch_leases"),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_watch_leases_rollout_id"),
    )
    op.create_table(
        "standbys",
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_standbys"),
    )


def downgrade() -> None:
    """Drop what version 0007 does not know; standby must not be running."""
    from alembic import op

    for table in ("standbys", "watch_leases", "watch_heartbeats"):
        op.drop_table(table)
    with op.batch_alter_table("reviews") as reviews:
        reviews.drop_column("asked_at")
    with op.batch_alter_table("looks") as looks:
        looks.drop_column("by")
    with op.batch_alter_table("rollouts") as rollouts:
        rollouts.drop_column("stage_write_until")
        rollouts.drop_column("rollback_terms")
