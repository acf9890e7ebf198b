"""Approved cases: those of all debts that have an expectation."""

from __future__ import annotations

from contextlib import suppress

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cases.jsonl import read_file
from rollback_budget.exceptions import CaseError


def approved_cases(folder: CaseFolder) -> dict[str, EvalCase]:
    """Return the cases of all debts that have an expectation, by their id.

    Left out are those that two debts expect to be answered in two ways, and files that cannot be read: the
    export, the gate and the commands of their debts report them.
    """
    found: dict[str, EvalCase] = {}
    disputed: set[str] = set()
    for file in folder.files():
        with suppress(CaseError):
            for case in read_file(file):
                if case.expectation is None:
                    continue
                other = found.setdefault(case.id, case)
                if not asks_the_same(case, other):
                    disputed.add(case.id)
    return {id_: case for id_, case in found.items() if id_ not in disputed}


def asks_the_same(one: EvalCase, other: EvalCase) -> bool:
    """Whether two lines of one case ask the same and expect the same."""
    if one.expectation is None or other.expectation is None:
        return one.input == other.input and one.expectation is other.expectation
    mine, theirs = one.expectation, other.expectation
    return (one.input, mine.kind, mine.value) == (other.input, theirs.kind, theirs.value)
