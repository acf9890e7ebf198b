"""Who owes: the owner that a service's newest rollout names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.ledger import Ledger

#: Whose service names nobody.
NOBODY = "nobody"


def owners_of(ledger: Ledger, debts: Iterable[Debt], now: datetime) -> dict[str, str]:
    """Return service to owner, :data:`NOBODY` where none is named. Raises LedgerError."""
    owners = {}
    for service in sorted({debt.service for debt in debts}):
        rollout = ledger.newest_rollout(service, now)
        owners[service] = (None if rollout is None else rollout.spec.owner) or NOBODY
    return owners
