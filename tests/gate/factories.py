"""Launches for the tests of this folder: debts, cases, results, and the gate's folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.gate.check import check_launch
from rollback_budget.gate.compile import compile_debt
from rollback_budget.gate.expectations import GateFolder
from rollback_budget.gate.request import GateRequest
from rollback_budget.gate.result import Effect, Finding, GateResult, GateRule
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.model.budget import Severity
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import EvalResults, LaunchGate
from tests.cases.factories import BREACHED_AT, case, debt, expects

NOW = BREACHED_AT + timedelta(days=2)
CANDIDATE, BASELINE = "v43", "v41"
Row = dict[str, Any]


def a_debt(metric: str = "task_success", **changes: Any) -> Debt:
    """Return a critical debt whose cases are approved."""
    values: dict[str, Any] = {"state": DebtState.APPROVED, "severity": Severity.CRITICAL}
    return debt(metric, **{**values, **changes})


def a_case(asked: str, of: Debt) -> EvalCase:
    """Return an approved case of a debt."""
    return case(asked, of=of.fingerprint, expected=expects("right"))


def row(case_id: str, passed: Any = True, release: str = CANDIDATE, **more: Any) -> Row:
    """Return one row of results."""
    return {"case_id": case_id, "release": release, "passed": passed, **more}


@dataclass
class Launch:
    """One launch to judge, in a folder of its own.

    :param rows: the results; None leaves no file of results.
    """

    folder: Path
    debts: tuple[Debt, ...] = ()
    rows: Sequence[Row] | None = ()
    gate: LaunchGate | None = None
    now: datetime = NOW
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def cases(self) -> CaseFolder:
        return CaseFolder(self.folder / "cases")

    @property
    def expectations(self) -> GateFolder:
        return GateFolder(self.folder / "gate")

    @property
    def file(self) -> Path:
        return self.folder / "results.jsonl"

    def with_cases(self, *asked: str, compiled: bool = True) -> list[str]:
        """Give each debt these cases, and compile their expectations; return the ids of the first debt's."""
        ids = []
        for one in self.debts:
            made = [a_case(text, one) for text in asked]
            self.cases.write(one, made)
            ids += [each.id for each in made] if one is self.debts[0] else []
            if compiled:
                self.expectations.write(compile_debt(one, self.cases, self.gate, ()), one.metric)
        return ids

    def request(self) -> GateRequest:
        gate = self.gate or LaunchGate(results=EvalResults(path=str(self.file)), columns=Columns())
        values: dict[str, Any] = {
            "service": "support",
            "release": CANDIDATE,
            "baseline": BASELINE,
            "at": self.now,
            "gate": gate,
            "budgets": (),
            "debts": self.debts,
            "cases_folder": self.folder / "cases",
            "gate_folder": self.folder / "gate",
        }
        return GateRequest(**{**values, **self.more})

    def judge(self) -> GateResult:
        """Judge the launch by its rows."""
        if self.rows is not None:
            lines = "".join(json.dumps(one) + "\n" for one in self.rows)
            self.file.write_text(lines, encoding="utf-8")
        return check_launch(self.request(), self.open_engine)

    def open_engine(self, conn_id: str) -> Engine:
        assert conn_id == "evals"
        return create_engine(f"sqlite:///{self.folder / 'evals.db'}")


def rules(result: GateResult, effect: Effect = Effect.BLOCK) -> set[GateRule]:
    """Return the rules whose findings have this effect."""
    return {finding.rule for finding in result.findings if finding.effect is effect}


def only(result: GateResult) -> Finding:
    """Return the one finding."""
    [finding] = result.findings
    return finding


__all__ = ["BASELINE", "CANDIDATE", "NOW", "UTC", "Launch", "a_case", "a_debt", "only", "row", "rules"]
