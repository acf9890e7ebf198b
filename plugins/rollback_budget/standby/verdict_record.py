"""Writing what a standby's watch has found: the verdict, its breaches, and the debts that they make."""

from __future__ import annotations

from datetime import datetime

from rollback_budget.debt.log import log_debts
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.rollback.request import Verdict


def record_verdict(ledger: Ledger, key: RolloutKey, verdict: Verdict, now: datetime) -> None:
    """Write it once, however often and by however many it is called. Raises LedgerError."""
    evaluation = verdict.evaluation
    ledger.evaluations.add(key, verdict.round_, verdict.kind, evaluation, now)
    log_debts(ledger, ledger.breaches.log(key, evaluation.breaches, now), now)
