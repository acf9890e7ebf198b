"""Bypassing the gate: a person may launch with a name and a reason; the bypass itself is a debt."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from rollback_budget.debt.lifecycle import bypass_fingerprint, bypassed
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.gate.result import BypassNote
from rollback_budget.ledger.debt_views import Bypass
from rollback_budget.ledger.ledger import Ledger

#: How long a bypass lets its release pass: for one launch and its retries, not for good.
HOLDS_FOR = timedelta(hours=24)
SHORTEST_REASON = 5


class BypassError(RollbackBudgetError):
    """A bypass without a name or a reason."""


def record_bypass(ledger: Ledger, service: str, release: str, by: str, reason: str, at: datetime) -> Bypass:
    """Let ``release`` pass the gate for :data:`HOLDS_FOR`, and owe a debt for it.

    :raises BypassError: no name, or no reason.
    :raises LedgerUnavailableError: the ledger cannot be written; the gate then still blocks.
    """
    by, reason = by.strip(), reason.strip()
    if not by:
        raise BypassError("a launch past the gate needs the name of the person who is responsible")
    if len(reason) < SHORTEST_REASON:
        raise BypassError(f"a launch past the gate needs a reason of at least {SHORTEST_REASON} letters")
    become = partial(bypassed, service=service, release=release, by=by, reason=reason, at=at)
    debt = ledger.debts.owe(bypass_fingerprint(service, release), become)
    bypass = Bypass(service, release, by, reason, at, debt.fingerprint)
    ledger.bypasses.add(bypass)
    return bypass


def bypass_now(ledger: Ledger, service: str, release: str, now: datetime) -> BypassNote | None:
    """Return the bypass that holds for a release; None when there is none. Raises LedgerError."""
    bypass = ledger.bypasses.newest(service, release, now - HOLDS_FOR)
    return None if bypass is None else BypassNote(by=bypass.by, reason=bypass.reason, at=bypass.at)
