"""DeepEval: goldens for ``EvaluationDataset.add_goldens_from_json_file``, and a metric that judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rollback_budget.cases.case import ExpectationKind
from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import CaseExporter
from rollback_budget.cases.export.text import template
from rollback_budget.cases.jsonl import write_json


class DeepEvalExporter(CaseExporter):
    """Goldens for DeepEval, and a metric that judges."""

    def files(self, cases: Sequence[ApprovedCase]) -> dict[str, str]:
        """Return the files of the export by name."""
        goldens = [_golden(case) for case in cases]
        return {
            "goldens.json": json.dumps(goldens, indent=2, sort_keys=True) + "\n",
            "judge.py": template("judge.py.txt"),
            "metric.py": template("deepeval_metric.py.txt"),
        }


def _golden(case: ApprovedCase) -> dict[str, Any]:
    value = case.expectation.value
    whole = case.expectation.kind is ExpectationKind.EXACT
    return {
        "name": case.case.id,
        "input": case.input_text,
        "expected_output": (value if isinstance(value, str) else write_json(value)) if whole else None,
        "additional_metadata": {
            **case.metadata(),
            "expectation": {"kind": case.expectation.kind.value, "value": value},
        },
    }
