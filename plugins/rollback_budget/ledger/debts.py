"""Eval debts: one row per weakness, every breach counted once.

The rules of a debt's life are not here: they stand in ``rollback_budget.debt`` and are passed in. Whatever
changes a debt holds its row's lock from reading to writing, so that concurrent calls see each other's work,
and writes the event in the same transaction, so that there is one event for each change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_events import append_event, events_of
from rollback_budget.ledger.debt_models import DebtEventRow, DebtRow, TicketRow
from rollback_budget.ledger.debt_rows import debt_values, debt_view, lock_debt, require_debt, store_debt
from rollback_budget.ledger.debt_views import (
    SETTLED,
    Debt,
    DebtChange,
    DebtEvent,
    DebtEventKind,
    DebtState,
    ProofRecord,
    TicketState,
)
from rollback_budget.ledger.proofs import proofs_of
from rollback_budget.ledger.views import LoggedBreach

_DUPLICATES_LOCK = 72_095


@dataclass(frozen=True, slots=True)
class LockedDebt:
    """A debt and what a rule may go by, read while its row is locked.

    :param events: of the debt, in the order in which they were recorded.
    :param proofs: of the debt, accepted or not, in the order in which they were recorded.
    :param debts: every debt, by fingerprint, without their tickets; empty unless the rule asked for them.
    """

    debt: Debt
    events: Sequence[DebtEvent]
    proofs: Sequence[ProofRecord]
    debts: Mapping[str, Debt]


@dataclass(frozen=True, slots=True)
class DebtUpdate:
    """What a debt becomes, and the events that say so."""

    debt: Debt
    events: tuple[DebtEvent, ...]


#: Decides what changes; raises LedgerRuleError when it may not, and returns nothing when nothing does.
DebtRule = Callable[[LockedDebt], Sequence[DebtUpdate]]
#: Says what a debt (None: not known yet) becomes by another breach, and what that is called.
CountBreach = Callable[[Debt | None, LoggedBreach], tuple[Debt, DebtEventKind]]
#: Says what a debt (None: not known yet) becomes that no breach made, and the event.
OweDebt = Callable[[Debt | None], tuple[Debt, DebtEvent]]


class Debts(Repository):
    """The debts of the ledger."""

    def count_breach(self, breach: LoggedBreach, at: datetime, rule: CountBreach) -> DebtChange | None:
        """Count a breach toward its debt, exactly once; None when it was counted before.

        The debt's row is locked while ``rule`` decides, so that concurrent calls see each other's work.
        """
        with self._database.write() as session:
            debt = lock_debt(session, breach.debt_fingerprint)
            if debt is None:
                fresh, kind = rule(None, breach)
                if insert_once(session, DebtRow, debt_values(fresh)):
                    _record(session, breach, kind, at, fresh.cycle)
                    return DebtChange(kind, breach.fingerprint, fresh)
                debt = lock_debt(session, breach.debt_fingerprint)
                assert debt is not None
            counted, kind = rule(debt, breach)
            if not _record(session, breach, kind, at, counted.cycle):
                return None
            store_debt(session, counted)
            if counted.cycle > debt.cycle:
                _forget_ticket(session, debt.fingerprint)
                counted = replace(counted, ticket=None)
            return DebtChange(kind, breach.fingerprint, counted)

    def change(
        self, fingerprint: str, rule: DebtRule, *, with_duplicates: bool = False
    ) -> tuple[Debt, list[DebtEvent]]:
        """Let ``rule`` decide, under the debt's lock, what becomes of it, and store that.

        :param with_duplicates: give the rule every debt, and let no other call that asks for them run
            meanwhile: each of two alone may be fine, and both together a circle.
        :return: the debt afterwards, and every event that was recorded.
        """
        with self._database.write() as session:
            if with_duplicates:
                _lock_duplicates(session)
            debt = require_debt(self._database, session, fingerprint)
            updates = rule(
                LockedDebt(
                    debt=debt,
                    events=events_of(session, fingerprint),
                    proofs=proofs_of(session, fingerprint),
                    debts=_by_fingerprint(session) if with_duplicates else {},
                )
            )
            for one in updates:
                store_debt(session, one.debt)
                for event in one.events:
                    append_event(session, event)
        changed = {one.debt.fingerprint: one.debt for one in updates}
        return changed.get(fingerprint, debt), [event for one in updates for event in one.events]

    def owe(self, fingerprint: str, rule: OweDebt) -> Debt:
        """Owe a debt that no breach made, or owe it again; an event that was recorded changes nothing."""
        with self._database.write() as session:
            debt = lock_debt(session, fingerprint)
            if debt is None:
                fresh, event = rule(None)
                if insert_once(session, DebtRow, debt_values(fresh)):
                    append_event(session, event)
                    return fresh
                debt = require_debt(self._database, session, fingerprint)
            again, event = rule(debt)
            if event in events_of(session, fingerprint):
                return debt
            store_debt(session, again)
            append_event(session, event)
            return again

    def every(self) -> list[Debt]:
        """Return every debt, the one that is due first at the head."""
        return self._selected(_all().order_by(DebtRow.due_at, DebtRow.fingerprint))

    def get(self, fingerprint: str) -> Debt | None:
        """Return one debt, None when there is none with that fingerprint."""
        found = self._selected(_all().where(DebtRow.fingerprint == fingerprint))
        return found[0] if found else None

    def unfiled(self) -> list[Debt]:
        """Return the debts that are owed and have no ticket yet, oldest first."""
        settled = [state.value for state in SETTLED]
        return self._selected(
            _all()
            .where(DebtRow.state.not_in(settled))
            .where(TicketRow.state.is_(None) | (TicketRow.state != TicketState.FILED.value))
            .order_by(DebtRow.detected_at, DebtRow.fingerprint)
        )

    def in_states(self, states: Collection[DebtState]) -> list[Debt]:
        """Return the debts that are in one of ``states``, oldest first."""
        return self._selected(
            _all()
            .where(DebtRow.state.in_([state.value for state in states]))
            .order_by(DebtRow.detected_at, DebtRow.fingerprint)
        )

    def with_ticket_in(self, tracker: str) -> list[Debt]:
        """Return the debts that have a ticket in ``tracker``, the oldest ticket first."""
        return self._selected(
            _all()
            .where(TicketRow.tracker == tracker, TicketRow.state == TicketState.FILED.value)
            .order_by(TicketRow.filed_at, DebtRow.fingerprint)
        )

    def _selected(self, query: Select[DebtRow, TicketRow]) -> list[Debt]:
        with self._database.read() as session:
            return [debt_view(row, ticket) for row, ticket in session.execute(query)]


def _by_fingerprint(session: Session) -> dict[str, Debt]:
    return {row.fingerprint: debt_view(row, None) for row in session.scalars(select(DebtRow))}


def _all() -> Select[DebtRow, TicketRow]:
    return select(DebtRow, TicketRow).outerjoin(TicketRow, TicketRow.debt_fingerprint == DebtRow.fingerprint)


def _lock_duplicates(session: Session) -> None:
    """Let one transaction at a time change which debt is paid with which."""
    if session.connection().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": _DUPLICATES_LOCK})


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
