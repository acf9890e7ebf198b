"""The ids of approved cases, for Acme's own evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import CaseExporter


class CaseList(CaseExporter):
    """One id a line."""

    def files(self, cases: Sequence[ApprovedCase]) -> dict[str, str]:
        return {"cases.txt": "".join(f"{one.case.id}\n" for one in cases)}
