"""Debts and cases for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind, Provenance
from rollback_budget.cases.case_id import case_id, sha256
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.ledger.fingerprint import debt_fingerprint
from rollback_budget.model.budget import Comparison, Severity

BREACHED_AT = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)


def debt(metric: str = "task_success", slice_: str | None = None, **changes: Any) -> Debt:
    """Return a major debt of the service ``support``."""
    comparison = Comparison.DELTA_PP
    values: dict[str, Any] = {
        "fingerprint": debt_fingerprint("support", "quality", metric, comparison, slice_),
        "service": "support",
        "area": "quality",
        "metric": metric,
        "comparison": comparison,
        "slice": slice_,
        "severity": Severity.MAJOR,
        "state": DebtState.FILED,
        "occurrences": 1,
        "cycle": 1,
        "detected_at": BREACHED_AT,
        "last_breach_at": BREACHED_AT,
        "due_at": BREACHED_AT + timedelta(days=10),
    }
    return Debt(**{**values, **changes})


def case(
    asked: Any, *, of: str | None = None, expected: Expectation | None = None, **changes: Any
) -> EvalCase:
    """Return a case of the debt ``of``, by default that of :func:`debt`."""
    made = EvalCase(
        id=case_id(asked, "task_success", None),
        debt=of or debt().fingerprint,
        metric="task_success",
        input=asked,
        expectation=expected,
        provenance=Provenance(breach="b" * 64, release="model-v42", content_sha256=sha256(asked)),
    )
    return made.model_copy(update=changes)


def expects(value: Any, kind: ExpectationKind = ExpectationKind.EXACT) -> Expectation:
    """Return an approved expectation."""
    return Expectation(kind=kind, value=value, approved_by="ada", approved_at=BREACHED_AT)
