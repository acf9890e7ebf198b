"""How eval debts are paid: cases, proofs, waivers, launch gates, and what is done to tickets."""

from __future__ import annotations

import sqlalchemy as sa

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and let debts and tickets say more."""
    from alembic import op

    with op.batch_alter_table("debts") as debts:
        debts.add_column(sa.Column("waived_by", sa.Text(), nullable=True))
        debts.add_column(sa.Column("waived_reason", sa.Text(), nullable=True))
        debts.add_column(sa.Column("waived_until", sa.DateTime(timezone=True), nullable=True))
        debts.add_column(sa.Column("duplicate_of", sa.String(length=64), nullable=True))
    with op.batch_alter_table("debt_events") as events:
        events.alter_column("breach_fingerprint", existing_type=sa.String(length=64), nullable=True)
        events.add_column(sa.Column("cycle", sa.Integer(), nullable=False, server_default="1"))
        events.add_column(sa.Column("by", sa.Text(), nullable=True))
        events.add_column(sa.Column("detail", sa.Text(), nullable=True))
    with op.batch_alter_table("debt_events") as events:
        events.alter_column("cycle", existing_type=sa.Integer(), server_default=None)
    with op.batch_alter_table("tickets") as tickets:
        tickets.add_column(sa.Column("issue_id", sa.Text(), nullable=True))
        tickets.add_column(sa.Column("status", sa.String(length=20), nullable=True))
        tickets.add_column(sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
    _create_what_is_done_to_tickets()
    _create_cases_and_proofs()
    _create_gates()


def _create_what_is_done_to_tickets() -> None:
    from alembic import op

    op.create_table(
        "ticket_deeds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("occasion", sa.String(length=100), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        _of_debt("ticket_deeds"),
        sa.PrimaryKeyConstraint("id", name="pk_ticket_deeds"),
        sa.UniqueConstraint("debt_fingerprint", "cycle", "occasion", name="uq_ticket_deeds_debt_fingerprint"),
    )


def _create_cases_and_proofs() -> None:
    from alembic import op

    op.create_table(
        "cases",
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("case_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("drafted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        _of_debt("cases"),
        sa.PrimaryKeyConstraint("debt_fingerprint", "case_id", name="pk_cases"),
    )
    op.create_table(
        "proofs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("breached_release", sa.Text(), nullable=False),
        sa.Column("candidate_release", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        _of_debt("proofs"),
        sa.PrimaryKeyConstraint("id", name="pk_proofs"),
        sa.UniqueConstraint("debt_fingerprint", "cycle", "digest", name="uq_proofs_debt_fingerprint"),
    )


def _create_gates() -> None:
    from alembic import op

    op.create_table(
        "gate_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dag_id", sa.String(length=250), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate_runs"),
        sa.UniqueConstraint("dag_id", "run_id", "at", name="uq_gate_runs_dag_id"),
    )
    op.create_index("ix_gate_runs_service", "gate_runs", ["service"])
    op.create_table(
        "bypasses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("debt_fingerprint", sa.String(length=64), nullable=False),
        _of_debt("bypasses"),
        sa.PrimaryKeyConstraint("id", name="pk_bypasses"),
        sa.UniqueConstraint("debt_fingerprint", "at", name="uq_bypasses_debt_fingerprint"),
    )
    op.create_index("ix_bypasses_service", "bypasses", ["service"])


def _of_debt(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["debt_fingerprint"], ["debts.fingerprint"], name=f"fk_{table}_debt_fingerprint"
    )


def downgrade() -> None:
    """Drop the tables and what is in them, and every event that no breach made."""
    from alembic import op

    for table in ("bypasses", "gate_runs", "proofs", "cases", "ticket_deeds"):
        op.drop_table(table)
    op.execute("DELETE FROM debt_events WHERE breach_fingerprint IS NULL")
    with op.batch_alter_table("tickets") as tickets:
        for column in ("seen_at", "status", "issue_id"):
            tickets.drop_column(column)
    with op.batch_alter_table("debt_events") as events:
        events.alter_column("breach_fingerprint", existing_type=sa.String(length=64), nullable=False)
        for column in ("detail", "by", "cycle"):
            events.drop_column(column)
    with op.batch_alter_table("debts") as debts:
        for column in ("duplicate_of", "waived_until", "waived_reason", "waived_by"):
            debts.drop_column(column)
