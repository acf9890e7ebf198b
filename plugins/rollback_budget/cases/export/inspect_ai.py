"""Inspect AI: a data set, and a task that asks it and judges the answers."""

from __future__ import annotations

from collections.abc import Sequence

from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import CaseExporter
from rollback_budget.cases.export.text import ascii_lines, template


class InspectExporter(CaseExporter):
    """A data set for Inspect AI, and a task on it."""

    def files(self, cases: Sequence[ApprovedCase]) -> dict[str, str]:
        """Return the files of the export by name."""
        return {
            "cases.jsonl": ascii_lines([case.record() for case in cases]),
            "judge.py": template("judge.py.txt"),
            "task.py": template("inspect_task.py.txt"),
        }
