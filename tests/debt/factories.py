"""Debts with cases and results for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind, Provenance
from rollback_budget.cases.case_id import case_id, sha256
from rollback_budget.debt.log import log_debts
from rollback_budget.evals.result import CaseResult, Results
from rollback_budget.ledger.debt_views import Debt, DebtState, ProofRecord
from rollback_budget.ledger.fingerprint import debt_fingerprint
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.budget import Comparison, Severity
from tests.support.rollouts import NOON, log_breach, make_breach

DAY = timedelta(days=1)


def make_debt(**changes: Any) -> Debt:
    """Return a major debt of yesterday's making, as a value."""
    values: dict[str, Any] = {
        "fingerprint": debt_fingerprint("support-bot", "latency", "p95", Comparison.DELTA_PCT, None),
        "service": "support-bot",
        "area": "latency",
        "metric": "p95",
        "comparison": Comparison.DELTA_PCT,
        "slice": None,
        "severity": Severity.MAJOR,
        "state": DebtState.DETECTED,
        "occurrences": 1,
        "cycle": 1,
        "detected_at": NOON,
        "last_breach_at": NOON,
        "due_at": NOON + 10 * DAY,
    }
    return Debt(**{**values, **changes})


def owe(ledger: Ledger, metric: str = "p95", at: datetime = NOON, **breach: Any) -> Debt:
    """Log a breach of a metric and return the debt that it makes."""
    budget = f"latency.{metric}_delta_pct"
    log_breach(ledger, make_breach(at, **breach, metric=metric, budget=budget))
    (change,) = log_debts(ledger, None, at)
    return change.debt


def make_proof(debt: Debt, **changes: Any) -> ProofRecord:
    """Return a proof as a record, accepted unless it is said otherwise."""
    values: dict[str, Any] = {
        "debt_fingerprint": debt.fingerprint,
        "cycle": debt.cycle,
        "digest": "d" * 64,
        "breached_release": "model-v42",
        "candidate_release": "model-v43",
        "accepted": True,
        "by": "alice",
        "at": NOON + DAY,
        "proof": "{}",
    }
    return ProofRecord(**{**values, **changes})


def make_case(asked: str, debt: Debt, *, approved: bool = True, **changes: Any) -> EvalCase:
    """Return a case of a debt."""
    expectation = Expectation(kind=ExpectationKind.EXACT, value="42", approved_by="alice", approved_at=NOON)
    made = EvalCase(
        id=case_id(asked, debt.metric, debt.slice),
        debt=debt.fingerprint,
        metric=debt.metric,
        input=asked,
        expectation=expectation if approved else None,
        provenance=Provenance(breach="b" * 64, release="model-v42"),
    )
    return made.model_copy(update=changes)


def results_of(release: str, runs: Mapping[str, Iterable[bool | None]], cases: Iterable[EvalCase]) -> Results:
    """Return the results of cases, by what was asked, on one release."""
    by_input = {str(case.input): case for case in cases}
    rows = tuple(
        CaseResult(by_input[asked].id, release, passed, input_sha256=sha256(asked))
        for asked, outcomes in runs.items()
        for passed in outcomes
    )
    return Results(origin=f"{release}.jsonl", digest=sha256([release, str(runs)]), cases=rows)
