"""Logging debts: every breach in the ledger is counted toward its debt, exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rollback_budget.debt.lifecycle import count_breach
from rollback_budget.ledger.debt_views import DebtChange
from rollback_budget.ledger.ledger import Ledger


def log_debts(ledger: Ledger, breach_fingerprints: Iterable[str] | None, now: datetime) -> list[DebtChange]:
    """Count breaches toward their debts and return what changed; a breach that was counted changes nothing.

    :param breach_fingerprints: the breaches to count; None sweeps up all that were not counted yet.
    :raises LedgerUnavailableError: what was counted stays, and a further call does the rest.
    """
    among = None if breach_fingerprints is None else set(breach_fingerprints)
    changes = (
        ledger.debts.count_breach(breach, now, count_breach) for breach in ledger.breaches.uncounted(among)
    )
    return [change for change in changes if change is not None]
