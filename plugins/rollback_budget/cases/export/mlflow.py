"""MLflow: records for an evaluation data set, a script that merges them into one, and a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rollback_budget.cases.case import ExpectationKind
from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import CaseExporter
from rollback_budget.cases.export.text import ascii_lines, template


class MlflowExporter(CaseExporter):
    """Records for an evaluation data set of MLflow, and a scorer."""

    def files(self, cases: Sequence[ApprovedCase]) -> dict[str, str]:
        """Return the files of the export by name."""
        return {
            "records.jsonl": ascii_lines([_record(case) for case in cases]),
            "judge.py": template("judge.py.txt"),
            "load.py": template("mlflow_load.py.txt"),
        }


def _record(case: ApprovedCase) -> dict[str, Any]:
    expectation = {"kind": case.expectation.kind.value, "value": case.expectation.value}
    expectations: dict[str, Any] = {"expectation": expectation}
    if case.expectation.kind is ExpectationKind.EXACT:
        expectations["expected_response"] = case.expectation.value
    if case.expectation.kind is ExpectationKind.CONTAINS:
        value = case.expectation.value
        expectations["expected_facts"] = value if isinstance(value, list) else [value]
    if case.expectation.kind is ExpectationKind.RUBRIC:
        value = case.expectation.value
        expectations["guidelines"] = value if isinstance(value, list) else [value]
    inputs = {"messages": case.case.input} if case.is_chat else {"input": case.case.input}
    # Tags are text in MLflow; what is more than a name stands in the expectations.
    tags = {key: value for key, value in case.metadata().items() if isinstance(value, str)}
    return {
        "inputs": inputs,
        "expectations": {**expectations, "case": case.metadata()},
        "tags": tags,
    }
