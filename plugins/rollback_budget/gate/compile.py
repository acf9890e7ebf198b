"""From a debt and its approved cases to what is expected of every release."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.case_id import sha256
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.exceptions import CaseError
from rollback_budget.gate.delta import DeltaRule
from rollback_budget.gate.expectations import ROLE, CaseSet, DebtExpectations, Expected
from rollback_budget.gate.result import SEVERITIES
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.launch_gate import LaunchGate

PRESENT, JUDGED, PASS, DELTA = "cases_present", "cases_judged", "cases_pass", "delta"
DELTA_TYPE = "expect_release_delta_to_be_within_budget"


def compile_debt(
    debt: Debt, cases: CaseFolder, gate: LaunchGate | None, budgets: Sequence[Budget]
) -> DebtExpectations:
    """Return what is expected because of ``debt``; nothing when it has no approved case and no measure.

    :param gate: how the service is evaluated; None when its budget does not say.
    :param budgets: the service's budgets today; the one that was breached says how much worse is too much.
    :raises CaseError: its case file cannot be read.
    """
    approved = [case for case in cases.cases_of(debt) if case.is_approved]
    expected: list[Expected] = []
    case_set = None
    if approved:
        case_set = _case_set(cases.file_of(debt), approved)
        expected += _of_cases(debt, sorted(case_set.inputs))
    rule = None if gate is None else _rule(debt, gate, budgets)
    if rule is not None:
        expected.append(delta_expectation(rule, SEVERITIES[debt.severity]))
    return DebtExpectations(
        debt=debt.fingerprint,
        service=debt.service,
        budget=debt.budget,
        cases=case_set,
        expectations=tuple(expected),
    )


def recompile(
    old: DebtExpectations | None,
    debt: Debt,
    cases: CaseFolder,
    gate: LaunchGate | None,
    budgets: Sequence[Budget],
) -> DebtExpectations:
    """Do what :func:`compile_debt` does, and keep the expectations that a person added to the existing file.

    :raises CaseError: its case file cannot be read.
    """
    made = compile_debt(debt, cases, gate, budgets)
    if old is None:
        return made
    severities = {str(one.role): one.severity for one in old.expectations if one.role is not None}
    ours = [
        one.model_copy(update={"severity": severities.get(str(one.role), one.severity)})
        for one in made.expectations
    ]
    by_hand = [one for one in old.expectations if one.role is None]
    return made.model_copy(update={"expectations": (*ours, *by_hand)})


def delta_expectation(rule: DeltaRule, severity: str) -> Expected:
    """Return the expectation that a candidate keeps to ``rule``."""
    kwargs = rule.model_dump(mode="json")
    return Expected.model_validate(
        {"type": DELTA_TYPE, "kwargs": kwargs, "severity": severity, "meta": {ROLE: DELTA}}
    )


def content_digest(file: Path) -> str:
    """Return the SHA-256 (hex) of a file. Raises CaseError."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise CaseError(f"{file}: the case file cannot be read: {error.strerror}") from error


def _case_set(file: Path, approved: Sequence[EvalCase]) -> CaseSet:
    return CaseSet(
        file=file.name,
        sha256=content_digest(file),
        inputs={case.id: sha256(case.input) for case in approved},
        breached={case.id: case.provenance.release for case in approved},
    )


def _of_cases(debt: Debt, ids: list[str]) -> list[Expected]:
    def expected(kind: str, role: str, severity: str, **kwargs: object) -> Expected:
        return Expected.model_validate(
            {"type": kind, "kwargs": kwargs, "severity": severity, "meta": {ROLE: role}}
        )

    return [
        expected(
            "expect_column_distinct_values_to_contain_set",
            PRESENT,
            "critical",
            column="case_id",
            value_set=ids,
        ),
        expected("expect_column_values_to_not_be_null", JUDGED, "critical", column="passed"),
        expected(
            "expect_column_values_to_be_in_set",
            PASS,
            SEVERITIES[debt.severity],
            column="passed",
            value_set=[1],
        ),
    ]


def _rule(debt: Debt, gate: LaunchGate, budgets: Sequence[Budget]) -> DeltaRule | None:
    # Only named measures: results that hold nothing but the cases would lack rows for any delta.
    measure = gate.measures.get(debt.metric)
    budget = next(
        (
            one
            for one in budgets
            if (one.area, one.metric, one.comparison, one.slice)
            == (debt.area, debt.metric, debt.comparison, debt.slice)
        ),
        None,
    )
    if measure is None or budget is None or budget.comparison is Comparison.INCREASE:
        return None
    return DeltaRule.model_validate(
        {
            "measure": debt.metric,
            "column": measure.column,
            "quantile": measure.quantile,
            "comparison": budget.comparison.value,
            "threshold": budget.threshold,
            "worse": budget.worse.value,
            "slice": budget.slice,
            "min_rows": gate.min_rows,
        }
    )
