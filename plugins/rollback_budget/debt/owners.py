"""Owners: who answers for a service's debts, as its newest rollout says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.ledger import Ledger

#: The owner of a service whose budget file names none.
NO_OWNER = "nobody"


def owners_of(ledger: Ledger, debts: Iterable[Debt], now: datetime) -> dict[str, str]:
    """Return service to owner, :data:`NO_OWNER` where none is named. Raises LedgerError."""
    owners = {}
    for service in sorted({debt.service for debt in debts}):
        rollout = ledger.rollouts.newest_of(service, now)
        owners[service] = (None if rollout is None else rollout.spec.owner) or NO_OWNER
    return owners
