"""The suite of one launch: the files of all debts, merged into few expectations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import JsonValue

from rollback_budget.exceptions import EvalError
from rollback_budget.gate.compile import DELTA_TYPE, JUDGED, PASS, PRESENT
from rollback_budget.gate.expectations import DebtExpectations, Expected
from rollback_budget.ledger.debt_views import Debt


class Kind(StrEnum):
    """What an expectation of the suite is for."""

    PRESENT = PRESENT
    JUDGED = JUDGED
    PASS = PASS
    DELTA = "delta"
    OTHER = "other"
    GUARD = "guard"


#: Expectations about missing values themselves; all others ignore missing values, so they get a guard.
_ABOUT_NULLS = ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null")
_COLUMN_KEYS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True)
class Check:
    """One expectation of the suite.

    :param config: its configuration in Great Expectations' form; ``meta`` holds the id.
    :param debt: of which debt it is; None for one of many debts, and for the budget file's own.
    :param guards: the id of the expectation that ignores the rows that this one checks for.
    """

    id: str
    kind: Kind
    config: Mapping[str, Any]
    severity: str
    debt: str | None = None
    guards: str | None = None


@dataclass(frozen=True)
class Suite:
    """All expectations of one launch.

    :param owners: by role and case, the debts that ask for it with the severity that each gives it.
    :param inputs: by case, the hashes that its input may have.
    :param breached: by case and debt, the release that answered it wrongly.
    """

    checks: tuple[Check, ...]
    owners: Mapping[tuple[Kind, str], tuple[tuple[str, str], ...]] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    breached: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids of all cases, sorted."""
        return tuple(sorted(self.inputs))


class OutcomeError(StrEnum):
    """Why an expectation could not be evaluated."""

    UNKNOWN = "unknown"
    COLUMN = "column"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ExpectationOutcome:
    """The outcome of one expectation, whatever library evaluated it.

    :param cases: the cases that did not meet it, where it is about cases.
    :param detail: what was observed, for people.
    :param error: why it could not be evaluated; None when it was.
    """

    check: str
    success: bool
    cases: tuple[str, ...] = ()
    detail: str = ""
    error: OutcomeError | None = None


EMPTY_SUITE = Suite(())


def build_suite(
    files: Sequence[tuple[Debt, DebtExpectations]],
    deltas: Iterable[Expected],
    release: str,
    baseline: str,
) -> Suite:
    """Merge the files of all enforced debts, and the budget file's own ``deltas``, into one suite.

    :raises EvalError: an expectation that could not be held to one version's rows.
    """
    owners: dict[tuple[Kind, str], list[tuple[str, str]]] = defaultdict(list)
    inputs: dict[str, str] = {}
    breached: dict[tuple[str, str], str] = {}
    checks: list[Check] = []
    for debt, file in files:
        for at, expected in enumerate(file.expectations):
            if expected.role in (PRESENT, JUDGED, PASS):
                for case_id in file.cases.inputs if file.cases else ():
                    owners[Kind(expected.role), case_id].append((debt.fingerprint, expected.severity))
            else:
                checks += _single(f"{debt.fingerprint}/{at}", expected, release, baseline, debt.fingerprint)
        if file.cases is not None:
            inputs |= file.cases.inputs
            breached |= {(case, debt.fingerprint): who for case, who in file.cases.breached.items()}
    for at, expected in enumerate(deltas):
        checks += _single(f"budget/{at}", expected, release, baseline, None)
    merged = [
        check for kind in (Kind.PRESENT, Kind.JUDGED, Kind.PASS) for check in _merged(kind, owners, release)
    ]
    return Suite(
        checks=(*merged, *checks),
        owners={key: tuple(value) for key, value in owners.items()},
        inputs=inputs,
        breached=breached,
    )


def _merged(
    kind: Kind, owners: Mapping[tuple[Kind, str], Sequence[tuple[str, str]]], release: str
) -> Iterable[Check]:
    ids = sorted(case for of, case in owners if of is kind)
    if not ids:
        return
    # Without the condition the baseline's rows would do.
    theirs = _equals("release", release)
    asked = {**_equals("case_id", ids), "operator": "IN"}
    both = {"type": "and", "conditions": [theirs, asked]}
    of_kind: dict[Kind, dict[str, Any]] = {
        Kind.PRESENT: {
            "type": "expect_column_distinct_values_to_contain_set",
            "kwargs": {"column": "case_id", "value_set": ids, "row_condition": theirs},
        },
        Kind.JUDGED: {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "passed", "row_condition": both},
        },
        Kind.PASS: {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "passed", "value_set": [1], "row_condition": both},
        },
    }
    yield Check(kind.value, kind, _identified(of_kind[kind], kind.value), "critical")


def _single(id_: str, expected: Expected, release: str, baseline: str, debt: str | None) -> Iterable[Check]:
    """Return an expectation of one debt, with guards for the rows that it would ignore."""
    kwargs = dict(expected.kwargs)
    if expected.type == DELTA_TYPE:
        kwargs |= {"release": release, "baseline": baseline}
        config = _identified({"type": expected.type, "kwargs": kwargs}, id_)
        yield Check(id_, Kind.DELTA, config, expected.severity, debt)
        return
    condition = _condition(kwargs.get("row_condition"), release, expected.type)
    config = _identified({"type": expected.type, "kwargs": {**kwargs, "row_condition": condition}}, id_)
    yield Check(id_, Kind.OTHER, config, expected.severity, debt)
    rows = {
        "type": "expect_table_row_count_to_be_between",
        "kwargs": {"min_value": 1, "row_condition": condition},
    }
    yield Check(f"{id_}/rows", Kind.GUARD, _identified(rows, f"{id_}/rows"), "critical", debt, id_)
    if expected.type in _ABOUT_NULLS:
        return
    for column in columns_of(kwargs):
        name = f"{id_}/{column}"
        known = {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": column, "row_condition": condition},
        }
        yield Check(name, Kind.GUARD, _identified(known, name), "critical", debt, id_)


def columns_of(kwargs: Mapping[str, JsonValue]) -> list[str]:
    """Return the columns that an expectation names."""
    found: list[str] = []
    for key in _COLUMN_KEYS:
        value = kwargs.get(key)
        found += [value] if isinstance(value, str) else map(str, value) if isinstance(value, list) else []
    return found


def _condition(own: JsonValue, release: str, kind: str) -> dict[str, Any]:
    theirs = _equals("release", release)
    if own is None:
        return theirs
    if not isinstance(own, dict):
        raise EvalError(
            f"{kind}: its row_condition is a text, which cannot be held to the candidate's rows; write it as "
            'an object: {"type": "comparison", "column": {"name": ...}, "operator": ..., "parameter": ...}'
        )
    return {"type": "and", "conditions": [theirs, own]}


def _equals(column: str, value: object) -> dict[str, Any]:
    return {"type": "comparison", "column": {"name": column}, "operator": "==", "parameter": value}


def _identified(config: Mapping[str, Any], id_: str) -> dict[str, Any]:
    return {**config, "meta": {"check": id_}}
