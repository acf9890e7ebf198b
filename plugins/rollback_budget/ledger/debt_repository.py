"""How debts move: steps on the way to paid, proofs, waivers, duplicates, and the story of each.

Whatever changes a debt holds its row's lock from reading to writing, so that racing calls see each other's
work, and writes the event in the same transaction, so that there is one event for each change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from rollback_budget.exceptions import LedgerError
from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.debt_models import DebtEventRow, DebtRow, ProofRow
from rollback_budget.ledger.debt_state_machine import (
    advanced,
    as_duplicate,
    duplicates_of,
    waived,
    waiver_detail,
)
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, ProofRecord, Waiver
from rollback_budget.ledger.debts import locked_debt, values_of, view
from rollback_budget.ledger.tickets import Tickets

#: Says what a debt becomes and how its story goes on; no event means that nothing changes.
Change = Callable[[Debt, list[DebtEvent]], tuple[Debt, list[DebtEvent]]]
#: The same for a debt that may not be there yet.
Become = Callable[[Debt | None], tuple[Debt, DebtEvent]]

_FAMILIES = 72_095


class Payments(Tickets):
    """The ways of the ledger's debts. Every method raises LedgerError."""

    def advance_state(
        self, fingerprint: str, to: DebtState, *, by: str, at: datetime, detail: str | None = None
    ) -> Debt:
        """Move a debt forward to ``to``; where it is there already, or further, nothing happens.

        Paying pays its duplicates too.

        :return: the debt afterwards.
        :raises LedgerError: ``to`` is no step forward, or needs a proof that is not there.
        """
        with self.write() as session:
            if to is DebtState.PAID:
                _lock_families(session)
            debt = self._debt(session, fingerprint)
            proven = _is_proven(session, debt)
            moved = advanced(debt, to, at, proven=proven)
            if moved is None:
                return debt
            _store(session, moved)
            _append(
                session, DebtEvent(fingerprint, debt.cycle, DebtEventKind(to.value), at, None, by, detail)
            )
            if to is DebtState.PAID:
                _pay_duplicates(session, fingerprint, by, at)
            return moved

    def waive(self, fingerprint: str, waiver: Waiver, at: datetime) -> Debt:
        """Let releases launch in spite of a debt until the waiver ends; return the debt afterwards."""
        with self.write() as session:
            debt = self._debt(session, fingerprint)
            changed = waived(debt, waiver, at)
            if changed is None:
                return debt
            _store(session, changed)
            kind, detail = DebtEventKind.WAIVED, waiver_detail(waiver)
            _append(session, DebtEvent(fingerprint, debt.cycle, kind, at, None, waiver.by, detail))
            return changed

    def mark_duplicate(
        self, fingerprint: str, of: str, *, by: str, at: datetime, detail: str | None = None
    ) -> Debt:
        """Let a debt be paid with another one; return it afterwards. Refuses circles."""
        with self.write() as session:
            # Each of two racing calls alone may be fine and both together a circle.
            _lock_families(session)
            debt = self._debt(session, fingerprint)
            changed = as_duplicate(debt, of, _by_fingerprint(session))
            if changed is None:
                return debt
            _store(session, changed)
            said = f"of {of}" if detail is None else f"of {of}: {detail}"
            kind = DebtEventKind.DUPLICATE
            _append(session, DebtEvent(fingerprint, debt.cycle, kind, at, None, by, said))
            return changed

    def change_debt(self, fingerprint: str, change: Change) -> tuple[Debt, list[DebtEvent]]:
        """Let ``change`` decide, from a debt and its story, what becomes of it; return what it said."""
        with self.write() as session:
            debt = self._debt(session, fingerprint)
            changed, events = change(debt, _events(session, fingerprint))
            if events:
                _store(session, changed)
            for event in events:
                _append(session, event)
            return changed, events

    def owe(self, fingerprint: str, become: Become) -> Debt:
        """Owe a debt that no breach made, or owe it again; an event that was recorded changes nothing."""
        with self.write() as session:
            debt = locked_debt(session, fingerprint)
            if debt is None:
                fresh, event = become(None)
                if insert_once(session, DebtRow, values_of(fresh)):
                    _append(session, event)
                    return fresh
                debt = self._debt(session, fingerprint)
            again, event = become(debt)
            if event in _events(session, fingerprint):
                return debt
            _store(session, again)
            _append(session, event)
            return again

    def debt_event(self, event: DebtEvent) -> bool:
        """Add a line to a debt's story; return whether it was new."""
        with self.write() as session:
            self._debt(session, event.debt_fingerprint)
            if event in _events(session, event.debt_fingerprint):
                return False
            _append(session, event)
            return True

    def debt_events(self, fingerprint: str | None = None) -> list[DebtEvent]:
        """Return the story of a debt, None for those of all, in the order in which it was recorded."""
        with self.read() as session:
            return _events(session, fingerprint)

    def record_proof(self, proof: ProofRecord) -> bool:
        """Append a proof; return whether it was new: the same proof counts once in a cycle."""
        with self.write() as session:
            self._debt(session, proof.debt_fingerprint)
            values = {name: getattr(proof, name) for name in ProofRecord.__dataclass_fields__}
            return insert_once(session, ProofRow, values)

    def proofs(self, fingerprint: str) -> list[ProofRecord]:
        """Return a debt's proofs, accepted or not, in the order in which they were recorded."""
        query = select(ProofRow).where(ProofRow.debt_fingerprint == fingerprint).order_by(ProofRow.id)
        with self.read() as session:
            return [
                ProofRecord(**{name: getattr(row, name) for name in ProofRecord.__dataclass_fields__})
                for row in session.scalars(query)
            ]

    def _debt(self, session: Session, fingerprint: str) -> Debt:
        debt = locked_debt(session, fingerprint)
        if debt is None:
            raise LedgerError(
                f"there is no debt {fingerprint!r} in the ledger at {self.place}."
                " See: rollback-budget debt list"
            )
        return debt


def _lock_families(session: Session) -> None:
    if session.connection().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": _FAMILIES})


def _by_fingerprint(session: Session) -> dict[str, Debt]:
    return {row.fingerprint: view(row, None) for row in session.scalars(select(DebtRow))}


def _is_proven(session: Session, debt: Debt) -> bool:
    """Whether a proof was accepted in this cycle, since the debt was last owed again."""
    reopened = [
        event.at
        for event in _events(session, debt.fingerprint)
        if event.kind in (DebtEventKind.REOPENED, DebtEventKind.BYPASSED) and event.cycle == debt.cycle
    ]
    accepted = session.scalars(
        select(ProofRow.at).where(
            ProofRow.debt_fingerprint == debt.fingerprint,
            ProofRow.cycle == debt.cycle,
            ProofRow.accepted.is_(True),
        )
    )
    return any(not reopened or at >= max(reopened) for at in accepted)


def _pay_duplicates(session: Session, original: str, by: str, at: datetime) -> None:
    for debt in duplicates_of(original, _by_fingerprint(session)):
        if debt.paid_at is not None:
            continue
        _store(session, replace(debt, paid_at=at))
        kind = DebtEventKind.PAID
        detail = f"with {original}"
        _append(session, DebtEvent(debt.fingerprint, debt.cycle, kind, at, None, by, detail))


def _store(session: Session, debt: Debt) -> None:
    session.execute(update(DebtRow).where(DebtRow.fingerprint == debt.fingerprint).values(**values_of(debt)))


def _append(session: Session, event: DebtEvent) -> None:
    values = {name: getattr(event, name) for name in DebtEvent.__dataclass_fields__}
    session.add(DebtEventRow(**{**values, "kind": event.kind.value}))
    session.flush()


def _events(session: Session, fingerprint: str | None) -> list[DebtEvent]:
    query = select(DebtEventRow).order_by(DebtEventRow.id)
    if fingerprint is not None:
        query = query.where(DebtEventRow.debt_fingerprint == fingerprint)
    return [
        DebtEvent(
            debt_fingerprint=row.debt_fingerprint,
            cycle=row.cycle,
            kind=DebtEventKind(row.kind),
            at=row.at,
            breach_fingerprint=row.breach_fingerprint,
            by=row.by,
            detail=row.detail,
        )
        for row in session.scalars(query)
    ]
