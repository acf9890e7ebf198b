"""The first tables.

Types are spelled out here, because a migration must stay what it was when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    from alembic import op

    op.create_table(
        "debts",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("comparison", sa.String(length=20), nullable=False),
        sa.Column("slice", sa.Text(), nullable=True),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_breach_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_debts"),
    )
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dag_id", sa.String(length=250), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("spec_sha256", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shipped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("final_decision", sa.String(length=20), nullable=True),
        sa.Column("final_by", sa.Text(), nullable=True),
        sa.Column("final_reason", sa.Text(), nullable=True),
        sa.Column("final_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("dag_id", "run_id", name="uq_rollouts_dag_id"),
    )
    op.create_table(
        "breaches",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("budget", sa.Text(), nullable=False),
        sa.Column("breached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("breach", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_breaches_rollout_id"),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_breaches"),
    )
    op.create_index("ix_breaches_debt_fingerprint", "breaches", ["debt_fingerprint"])
    op.create_index("ix_breaches_rollout_id", "breaches", ["rollout_id"])
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("option", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("timed_out", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_decisions_rollout_id"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.UniqueConstraint("rollout_id", "round", "at", name="uq_decisions_rollout_id"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("evaluated_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evaluation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_evaluations_rollout_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint(
            "rollout_id", "round", "kind", "evaluated_until", name="uq_evaluations_rollout_id"
        ),
    )
    op.create_table(
        "overrides",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("budget_ids", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_overrides_rollout_id"),
        sa.PrimaryKeyConstraint("id", name="pk_overrides"),
        sa.UniqueConstraint("rollout_id", "round", "at", name="uq_overrides_rollout_id"),
    )
    op.create_table(
        "rollbacks",
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=30), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("control_plane", sa.Text(), nullable=False),
        sa.Column("data_plane", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_rollbacks_rollout_id"),
        sa.PrimaryKeyConstraint("idempotency_key", name="pk_rollbacks"),
    )
    op.create_index("ix_rollbacks_rollout_id", "rollbacks", ["rollout_id"])
    op.create_table(
        "tickets",
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("tracker", sa.String(length=20), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("filed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["debt_fingerprint"], ["debts.fingerprint"], name="fk_tickets_debt_fingerprint"
        ),
        sa.PrimaryKeyConstraint("debt_fingerprint", name="pk_tickets"),
    )
    op.create_table(
        "debt_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("breach_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["breach_fingerprint"], ["breaches.fingerprint"], name="fk_debt_events_breach_fingerprint"
        ),
        sa.ForeignKeyConstraint(
            ["debt_fingerprint"], ["debts.fingerprint"], name="fk_debt_events_debt_fingerprint"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_debt_events"),
        sa.UniqueConstraint("debt_fingerprint", "breach_fingerprint", name="uq_debt_events_debt_fingerprint"),
    )
    op.create_index("ix_debt_events_breach_fingerprint", "debt_events", ["breach_fingerprint"])


def downgrade() -> None:
    """Drop the tables and all evidence in them."""
    from alembic import op

    for table in (
        "debt_events",
        "tickets",
        "rollbacks",
        "overrides",
        "evaluations",
        "decisions",
        "breaches",
        "rollouts",
        "debts",
    ):
        op.drop_table(table)
