"""Eval debts: one row per weakness, every breach counted once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.debt_models import DebtEventRow, DebtRow, TicketRow
from rollback_budget.ledger.debt_views import (
    SETTLED,
    Debt,
    DebtChange,
    DebtEventKind,
    DebtState,
    Ticket,
    TicketState,
    Waiver,
)
from rollback_budget.ledger.history import RolloutHistory
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.model.budget import Comparison, Severity

#: Says what a debt (None: not known yet) becomes by another breach, and what that is called.
Advance = Callable[[Debt | None, LoggedBreach], tuple[Debt, DebtEventKind]]


class Debts(RolloutHistory):
    """The debts of the ledger. Every method raises LedgerError."""

    def count_breach(self, breach: LoggedBreach, at: datetime, advance: Advance) -> DebtChange | None:
        """Count a breach toward its debt, exactly once; None when it was counted before.

        The debt's row is locked while ``advance`` decides, so that racing calls see each other's work.
        """
        with self.write() as session:
            debt = locked_debt(session, breach.debt_fingerprint)
            if debt is None:
                fresh, kind = advance(None, breach)
                if insert_once(session, DebtRow, values_of(fresh)):
                    _record(session, breach, kind, at, fresh.cycle)
                    return DebtChange(kind, breach.fingerprint, fresh)
                debt = locked_debt(session, breach.debt_fingerprint)
                assert debt is not None
            advanced, kind = advance(debt, breach)
            if not _record(session, breach, kind, at, advanced.cycle):
                return None
            session.execute(
                update(DebtRow).where(DebtRow.fingerprint == debt.fingerprint).values(**values_of(advanced))
            )
            if advanced.cycle > debt.cycle:
                _forget_ticket(session, debt.fingerprint)
                advanced = replace(advanced, ticket=None)
            return DebtChange(kind, breach.fingerprint, advanced)

    def debts(self) -> list[Debt]:
        """Return every debt, the one that is due first at the head."""
        with self.read() as session:
            return [view(row, ticket) for row, ticket in session.execute(_all())]

    def debt(self, fingerprint: str) -> Debt | None:
        """Return one debt, None when there is none of that name."""
        with self.read() as session:
            row = session.execute(_all().where(DebtRow.fingerprint == fingerprint)).one_or_none()
            return None if row is None else view(row[0], row[1])

    def unfiled_debts(self) -> list[Debt]:
        """Return the debts that are owed and have no ticket yet, oldest first."""
        settled = [state.value for state in SETTLED]
        query = (
            select(DebtRow, TicketRow)
            .outerjoin(TicketRow, TicketRow.debt_fingerprint == DebtRow.fingerprint)
            .where(DebtRow.state.not_in(settled))
            .where(TicketRow.state.is_(None) | (TicketRow.state != TicketState.FILED.value))
            .order_by(DebtRow.detected_at, DebtRow.fingerprint)
        )
        with self.read() as session:
            return [view(row, ticket) for row, ticket in session.execute(query)]


def _all() -> Select[DebtRow, TicketRow]:
    return (
        select(DebtRow, TicketRow)
        .outerjoin(TicketRow, TicketRow.debt_fingerprint == DebtRow.fingerprint)
        .order_by(DebtRow.due_at, DebtRow.fingerprint)
    )


def locked_debt(session: Session, fingerprint: str) -> Debt | None:
    """Return a debt whose row nobody else changes until this transaction ends; None when there is none."""
    row = session.scalar(select(DebtRow).where(DebtRow.fingerprint == fingerprint).with_for_update())
    return None if row is None else view(row, session.get(TicketRow, fingerprint))


def _record(session: Session, breach: LoggedBreach, kind: DebtEventKind, at: datetime, cycle: int) -> bool:
    return insert_once(
        session,
        DebtEventRow,
        {
            "debt_fingerprint": breach.debt_fingerprint,
            "breach_fingerprint": breach.fingerprint,
            "cycle": cycle,
            "kind": kind.value,
            "at": at,
        },
    )


def _forget_ticket(session: Session, fingerprint: str) -> None:
    """Let a new ticket be filed: the old one was paid and closed long ago."""
    ticket = session.get(TicketRow, fingerprint)
    if ticket is not None:
        session.delete(ticket)


def values_of(debt: Debt) -> dict[str, Any]:
    """Return what a debt's row holds."""
    return {
        "fingerprint": debt.fingerprint,
        "service": debt.service,
        "area": debt.area,
        "metric": debt.metric,
        "comparison": debt.comparison.value,
        "slice": debt.slice,
        "severity": debt.severity.value,
        "state": debt.state.value,
        "occurrences": debt.occurrences,
        "cycle": debt.cycle,
        "detected_at": debt.detected_at,
        "last_breach_at": debt.last_breach_at,
        "due_at": debt.due_at,
        "paid_at": debt.paid_at,
        "waived_by": None if debt.waiver is None else debt.waiver.by,
        "waived_reason": None if debt.waiver is None else debt.waiver.reason,
        "waived_until": None if debt.waiver is None else debt.waiver.until,
        "duplicate_of": debt.duplicate_of,
    }


def view(row: DebtRow, ticket: TicketRow | None) -> Debt:
    """Return the view of a debt and its ticket."""
    return Debt(
        fingerprint=row.fingerprint,
        service=row.service,
        area=row.area,
        metric=row.metric,
        comparison=Comparison(row.comparison),
        slice=row.slice,
        severity=Severity(row.severity),
        state=DebtState(row.state),
        occurrences=row.occurrences,
        cycle=row.cycle,
        detected_at=row.detected_at,
        last_breach_at=row.last_breach_at,
        due_at=row.due_at,
        paid_at=row.paid_at,
        ticket=None if ticket is None else ticket_view(ticket),
        waiver=_waiver(row),
        duplicate_of=row.duplicate_of,
    )


def _waiver(row: DebtRow) -> Waiver | None:
    if row.waived_by is None or row.waived_until is None:
        return None
    return Waiver(row.waived_by, row.waived_reason or "", row.waived_until)


def ticket_view(row: TicketRow) -> Ticket:
    """Return the view of a ticket."""
    return Ticket(
        state=TicketState(row.state),
        tracker=row.tracker,
        key=row.key,
        url=row.url,
        filed_at=row.filed_at,
        lease_until=row.lease_until,
        unknown_since=row.unknown_since,
        last_error=row.last_error,
        issue_id=row.issue_id,
        status=row.status,
        seen_at=row.seen_at,
        told=row.told,
    )
