"""Facts that stood in sentences only: a waiver's end, a step of ageing, and who closed a ticket."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STEPS = ("half-time", "due", "overdue")


def upgrade() -> None:
    """Add the columns, and fill them from the sentences; a sentence that says nothing leaves them empty."""
    from alembic import op

    with op.batch_alter_table("debt_events") as events:
        events.add_column(sa.Column("waived_until", sa.DateTime(timezone=True), nullable=True))
        events.add_column(sa.Column("ageing_step", sa.String(length=20), nullable=True))
    with op.batch_alter_table("ticket_deeds") as operations:
        operations.add_column(sa.Column("closed_by", sa.String(length=20), nullable=True))
    connection = op.get_bind()
    _fill_events(connection)
    _fill_closings(connection)


def _fill_events(connection: sa.Connection) -> None:
    events = sa.table(
        "debt_events",
        sa.column("id", sa.Integer),
        sa.column("kind", sa.String),
        sa.column("detail", sa.Text),
        sa.column("waived_until", sa.DateTime(timezone=True)),
        sa.column("ageing_step", sa.String),
    )
    told = sa.select(events.c.id, events.c.kind, events.c.detail).where(
        events.c.kind.in_(("waived", "escalated")), events.c.detail.is_not(None)
    )
    for id_, kind, detail in connection.execute(told).all():
        if kind == "waived":
            found: dict[str, datetime | str | None] = {
                "waived_until": _waived_until(detail, connection.dialect.name)
            }
        else:
            found = {"ageing_step": next((one for one in _STEPS if detail.startswith(f"{one}: ")), None)}
        connection.execute(sa.update(events).where(events.c.id == id_).values(**found))


def _waived_until(detail: str, dialect: str) -> datetime | None:
    """Read "until 2026-01-31 03:27 UTC: the reason", as version 0006 wrote it."""
    start, separator, _ = detail.partition(" UTC: ")
    if not separator or not start.startswith("until "):
        return None
    try:
        until = datetime.strptime(start.removeprefix("until "), "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    # The ledger's times are in UTC, and SQLite keeps no zone.
    return until.replace(tzinfo=None) if dialect == "sqlite" else until


def _fill_closings(connection: sa.Connection) -> None:
    operations = sa.table("ticket_deeds", sa.column("occasion", sa.String), sa.column("closed_by", sa.String))
    answers = operations.c.occasion.like("closed by hand %")
    closings = sa.and_(operations.c.occasion.like("closed %"), sa.not_(answers))
    connection.execute(sa.update(operations).where(answers).values(closed_by="person"))
    connection.execute(sa.update(operations).where(closings).values(closed_by="rollback-budget"))


def downgrade() -> None:
    """Drop the columns; the sentences still say what version 0006 reads."""
    from alembic import op

    with op.batch_alter_table("ticket_deeds") as operations:
        operations.drop_column("closed_by")
    with op.batch_alter_table("debt_events") as events:
        for column in ("ageing_step", "waived_until"):
            events.drop_column(column)
