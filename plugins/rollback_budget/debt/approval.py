"""Approving: a person says what is expected of the answer to a case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import JsonValue

from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind
from rollback_budget.cases.case_id import normalised
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.debt.drafting import sync_cases
from rollback_budget.exceptions import CaseError
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.ledger import Ledger


def expectation_of(kind: ExpectationKind, value: JsonValue, *, by: str, at: datetime) -> Expectation:
    """Return an expectation. Raises CaseError for one that no answer, or every answer, would meet."""
    if not by.strip():
        raise CaseError("an expectation needs who approves it: --by NAME")
    texts = value if isinstance(value, list) else [value]
    if kind is ExpectationKind.JSON_SCHEMA:
        _check_schema(value)
    elif kind is not ExpectationKind.EXACT and not all(isinstance(t, str) and t.strip() for t in texts):
        raise CaseError(f"`{kind.value}` needs text; an empty one fits every answer")
    elif kind is ExpectationKind.EXACT and value in (None, ""):
        raise CaseError("`exact` needs the whole answer that is right")
    return Expectation(kind=kind, value=value, approved_by=by.strip(), approved_at=at)


def approve(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    id_prefixes: Sequence[str],
    expectation: Expectation,
) -> list[EvalCase]:
    """Set the expectation of cases, here and in every debt that has them; return them.

    All cases of a debt approved move it to ``approved``.

    :param id_prefixes: of the cases' ids; ``all`` means every case of the debt that has no expectation yet.
    :raises CaseError: there is no such case, it is a stub, or the expectation is what the breach answered.
    """
    debts = {one.fingerprint: one for one in ledger.debts.every()}
    changed = {"expectation": expectation}
    with folder.editing():
        chosen = _select(folder, debt, id_prefixes)
        for case in chosen:
            _check_expectation(case, expectation)
        ids = {case.id for case in chosen}
        for fingerprint, cases in folder.read().items():
            if ids.isdisjoint(case.id for case in cases) or fingerprint not in debts:
                continue
            folder.write(
                debts[fingerprint],
                [case.model_copy(update=changed) if case.id in ids else case for case in cases],
            )
            sync_cases(
                ledger, folder, debts[fingerprint], by=expectation.approved_by, at=expectation.approved_at
            )
        return [case for case in folder.cases_of(debt) if case.id in ids]


def _select(folder: CaseFolder, debt: Debt, id_prefixes: Sequence[str]) -> list[EvalCase]:
    cases = folder.cases_of(debt)
    if not cases:
        raise CaseError(
            f"{folder.file_of(debt)}: the debt has no cases; draft some: rollback-budget debt draft"
            f" {debt.fingerprint[:16]}"
        )
    if list(id_prefixes) == ["all"]:
        found = [case for case in cases if case.expectation is None and case.missing is None]
        if not found:
            raise CaseError(f"{folder.file_of(debt)}: no case waits for an expectation")
        return found
    return [_find_by_prefix(folder, debt, cases, prefix) for prefix in dict.fromkeys(id_prefixes)]


def _find_by_prefix(folder: CaseFolder, debt: Debt, cases: Sequence[EvalCase], prefix: str) -> EvalCase:
    found = [case for case in cases if case.id.removeprefix("case-").startswith(prefix.removeprefix("case-"))]
    if len(found) == 1:
        return found[0]
    what = "several cases' ids begin" if found else "no case's id begins"
    raise CaseError(
        f"{folder.file_of(debt)}: {what} with {prefix!r}. See: rollback-budget debt cases"
        f" {debt.fingerprint[:16]}"
    )


def _check_expectation(case: EvalCase, expectation: Expectation) -> None:
    if case.missing is not None:
        raise CaseError(f"{case.id} is a stub, there is nothing to judge yet. {case.missing}")
    is_evidence = (
        expectation.kind is ExpectationKind.EXACT
        and case.breached_output is not None
        and normalised(expectation.value) == normalised(case.breached_output)
    )
    if is_evidence:
        raise CaseError(
            f"{case.id}: this is what the breached release answered, so the case could never fail on it; say"
            " what the right answer is, or what it must contain"
        )


def _check_schema(schema: JsonValue) -> None:
    # Part of Airflow's own dependencies, and of no use to anything but this.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict) or not schema:
        raise CaseError("a JSON schema is an object with at least one rule; an empty one fits every answer")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise CaseError(f"not a JSON schema: {error.message}") from None
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise CaseError(
                f"the JSON schema refers to {reference!r}; write it into the schema, so that judging an"
                " answer reads no file and no network"
            )


def _references(value: JsonValue) -> list[str]:
    match value:
        case dict():
            own = [
                item
                for key, item in value.items()
                if key in ("$ref", "$dynamicRef") and isinstance(item, str)
            ]
            return own + [found for item in value.values() for found in _references(item)]
        case list():
            return [found for item in value for found in _references(item)]
        case _:
            return []
