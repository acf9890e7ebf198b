"""Version 0007 takes facts out of sentences: a ledger of version 0006 with data in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from rollback_budget.debt.ageing import AgeingStep, step_of
from rollback_budget.debt.state_machine import waiver_detail
from rollback_budget.ledger.debt_views import ClosedBy, DebtEvent, DebtEventKind, Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.migrate import alembic_config
from tests.support.rollouts import NOON

pytestmark = pytest.mark.database

DEBT = "d" * 64
UNTIL = datetime(2026, 3, 9, 17, 30, tzinfo=UTC)
#: Kind and detail of an event of version 0006, the waiver's end and the step of ageing that it says.
EVENTS: list[tuple[str, str | None, datetime | None, AgeingStep | None]] = [
    ("detected", None, None, None),
    ("waived", waiver_detail(Waiver("alice", "until 2030-01-01 00:00 UTC: a joke", UNTIL)), UNTIL, None),
    ("waived", "until the cows come home", None, None),
    ("waived", "until 2026-02-30 10:00 UTC: there is no such day", None, None),
    ("waived", None, None, None),
    ("escalated", "half-time: half of its time is over", None, AgeingStep.HALF_TIME),
    ("escalated", "due: it was due", None, AgeingStep.DUE),
    ("escalated", "overdue: it is overdue", None, AgeingStep.OVERDUE),
    ("escalated", "with its duplicates: critical, due 2026-03-04 12:00 UTC", None, None),
    ("bypassed", "until 2026-03-09 17:30 UTC: a reason that a person gave", None, None),
    ("bypassed", "due: another one", None, None),
]
#: Occasion of an operation of version 0006, and who closed the ticket.
OPERATIONS: list[tuple[str, ClosedBy | None]] = [
    ("closed 20260301T120000", ClosedBy.ROLLBACK_BUDGET),
    ("closed as a duplicate", ClosedBy.ROLLBACK_BUDGET),
    ("closed by hand 0123456789abcdef", ClosedBy.PERSON),
    ("recurred 2", None),
    ("reopened 1", None),
]


def at_version(ledger: Ledger, version: str) -> None:
    from alembic import command

    with ledger.database.connect() as connection:
        command.upgrade(alembic_config(connection), version)


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """A ledger of version 0006 with a debt, its events and what was done to its ticket."""
    url = (
        f"sqlite:///{tmp_path / 'ledger.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    if request.param == "sqlite":
        (tmp_path / "ledger.db").touch()
    ledger = Ledger(url)
    at_version(ledger, "0006")
    tables = sa.MetaData()
    with ledger.database.connect() as connection:
        tables.reflect(connection, only=["debts", "debt_events", "ticket_deeds"])

        def insert(table: str, *rows: dict[str, object]) -> None:
            for row in rows:
                values = {name: _naive(value, connection) for name, value in row.items()}
                connection.execute(tables.tables[table].insert().values(**values))

        insert(
            "debts",
            {
                "fingerprint": DEBT,
                "service": "support-bot",
                "area": "latency",
                "metric": "p95",
                "comparison": "delta_pct",
                "severity": "major",
                "state": "detected",
                "occurrences": 1,
                "cycle": 1,
                "detected_at": NOON,
                "last_breach_at": NOON,
                "due_at": NOON + timedelta(days=10),
            },
        )
        insert(
            "debt_events",
            *(
                {
                    "debt_fingerprint": DEBT,
                    "cycle": 1,
                    "kind": kind,
                    "at": NOON,
                    "by": "alice",
                    "detail": detail,
                }
                for kind, detail, *_ in EVENTS
            ),
        )
        insert(
            "ticket_deeds",
            *(
                {
                    "debt_fingerprint": DEBT,
                    "cycle": 1,
                    "occasion": occasion,
                    "claimed_at": NOON,
                    "done_at": NOON,
                }
                for occasion, _ in OPERATIONS
            ),
        )
    return ledger


def _naive(value: object, connection: sa.Connection) -> object:
    if isinstance(value, datetime) and connection.dialect.name == "sqlite":
        return value.replace(tzinfo=None)
    return value


def test_what_sentences_said_is_in_columns_and_what_they_did_not_say_stays_unknown(old: Ledger) -> None:
    old.migrate()
    events = old.debt_events.of(DEBT)
    assert [(one.kind.value, one.detail) for one in events] == [(kind, said) for kind, said, *_ in EVENTS]
    assert [one.waived_until for one in events] == [until for *_, until, _ in EVENTS]
    assert [step_of(one) for one in events] == [step for *_, step in EVENTS]
    done = old.ticket_operations.of(DEBT, 1)
    assert [(one.occasion, one.closed_by) for one in done] == OPERATIONS


def test_what_is_written_afterwards_reads_like_what_was_carried_over(old: Ledger) -> None:
    old.migrate()
    event = DebtEvent(DEBT, 1, DebtEventKind.WAIVED, NOON, by="bob", detail="…", waived_until=UNTIL)
    assert old.debt_events.add(event)
    assert old.debt_events.of(DEBT)[-1] == event
    assert old.ticket_operations.claim(DEBT, 1, "closed again", NOON, closed_by=ClosedBy.PERSON)
    assert old.ticket_operations.of(DEBT, 1)[-1].closed_by is ClosedBy.PERSON


def test_going_back_to_version_0006_and_up_again_loses_nothing(old: Ledger) -> None:
    from alembic import command

    old.migrate()
    before = old.debt_events.of(DEBT), old.ticket_operations.of(DEBT, 1)
    with old.database.connect() as connection:
        command.downgrade(alembic_config(connection), "0006")
    old.migrate()
    assert (old.debt_events.of(DEBT), old.ticket_operations.of(DEBT, 1)) == before
