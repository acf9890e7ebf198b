"""Debts for tests, owed, watched and paid, each with the one thing that a test is about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from rollback_budget.debt.changes import advance_state
from rollback_budget.debt.log import log_debts
from rollback_budget.engine.evaluation import Status
from rollback_budget.ledger.debt_views import Debt, DebtState, ProofRecord
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import LookRecord
from rollback_budget.ledger.rollout_key import RolloutKey
from tests.support.rollouts import NOON, log_breach, make_breach

MINUTE = timedelta(minutes=1)


def owe(
    ledger: Ledger, service: str, at: datetime = NOON, key: RolloutKey | None = None, **changes: Any
) -> Debt:
    """Let ``service`` breach at a time and return what it owes; called again it owes the same once more."""
    key = key or RolloutKey("rollout_model_v42", f"{service} {at:%Y-%m-%dT%H:%M}")
    of_spec = {name: changes.pop(name) for name in ("owner", "tickets") if name in changes}
    log_breach(ledger, make_breach(at, **changes), key, service=service, **of_spec)
    return log_debts(ledger, None, at)[0].debt


def watch(ledger: Ledger, service: str, at: datetime = NOON, looks: int = 45) -> None:
    """Record a watch's looks up to the breach that :func:`owe` makes by default."""
    key = RolloutKey("rollout_model_v42", f"{service} {at:%Y-%m-%dT%H:%M}")
    letters = {Status.GOOD: "g", Status.BAD: "b"}
    records = []
    for minute in range(looks):
        status = Status.BAD if minute >= looks - 31 else Status.GOOD
        burn = max(0, minute - (looks - 31)) * 60
        delta = 31 if status is Status.BAD else 1
        values = f'["{letters[status]}",{burn},{delta},2.1,1.6,480,471]'
        records.append(LookRecord(key, at - (looks - 1 - minute) * MINUTE, f"[{values}]"))
    ledger.looks.add(records)


def pay(ledger: Ledger, debt: Debt, at: datetime) -> None:
    """Prove a debt and pay it."""
    proof = ProofRecord(
        debt_fingerprint=debt.fingerprint,
        cycle=debt.cycle,
        digest=f"{at:%Y%m%d%H%M}".ljust(64, "a"),
        breached_release="model-v42",
        candidate_release="model-v43",
        accepted=True,
        by="ada",
        at=at,
        proof='{"cases": [{"id": "case-1", "red": "2 of 2", "green": "3 of 3"}]}',
    )
    ledger.proofs.add(proof)
    for state in (DebtState.DRAFTED, DebtState.APPROVED, DebtState.PROVEN, DebtState.PAID):
        advance_state(ledger.debts, debt.fingerprint, state, by="ada", at=at)


def now_owed(ledger: Ledger, debt: Debt) -> Debt:
    """Return a debt as it is now."""
    found = ledger.debts.get(debt.fingerprint)
    assert found is not None
    return found
