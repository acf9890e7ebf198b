"""``python -m bench gate``: 200 debts on 20 000 rows, beside one stock expectation for each check."""

from __future__ import annotations

import importlib
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from sqlalchemy import create_engine, text

from bench.figure import Figure
from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind, Provenance
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.gate.check import check_launch
from rollback_budget.gate.compile import compile_debt
from rollback_budget.gate.expectations import GateFolder
from rollback_budget.gate.request import GateRequest
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.ledger.fingerprint import debt_fingerprint
from rollback_budget.model.budget import Budget, Comparison, Severity, Worse
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import EvalResults, LaunchGate, Measure

TITLE = "launch gate: 200 debts of 3 cases and a delta each, 20 000 rows of two versions"

DEBTS, CASES, ROWS, SLICES = 200, 3, 20_000, 20
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CANDIDATE, BASELINE = "v43", "v42"
MEASURES = {
    "task_success": Measure(column="passed"),
    "tone": Measure(column="score"),
    "p50": Measure(column="latency_s", quantile=0.5),
    "p95": Measure(column="latency_s", quantile=0.95),
}
COLUMNS = Columns(numbers=("latency_s",))

Row = dict[str, Any]


def measure() -> list[Figure]:
    """Measure after the imports, which cost both sides the same."""
    begun = perf_counter()
    importlib.import_module("rollback_budget.gate.gx_run")
    loaded = perf_counter() - begun
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        debts = [_debt(number) for number in range(DEBTS)]
        budgets = tuple(map(_budget, debts))
        of_file = _gate(EvalResults(path=str(folder / "results.jsonl")))
        of_table = _gate(EvalResults(conn_id="evals", table="results"))
        cases = _write(folder, debts, of_file, budgets)
        rows = _rows(cases)
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        engine = create_engine(f"sqlite:///{folder / 'evals.db'}")
        with engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE results (case_id, release, passed, score, slice, latency_s)")
            )
            values = ":case_id, :release, :passed, :score, :slice, :latency_s"
            connection.execute(text(f"INSERT INTO results VALUES ({values})"), rows)

        def judge(gate: LaunchGate) -> float:
            request = GateRequest(
                service="support",
                release=CANDIDATE,
                baseline=BASELINE,
                at=NOW,
                gate=gate,
                budgets=budgets,
                debts=tuple(debts),
                cases_folder=folder / "cases",
                gate_folder=folder / "gate",
            )
            begun = perf_counter()
            result = check_launch(request, lambda _conn_id: engine)
            took = perf_counter() - begun
            assert (result.verdict, result.cases, result.deltas) == ("pass", DEBTS * CASES, DEBTS), (
                result.reason
            )
            return took

        in_memory = min(judge(of_file) for _ in range(3))
        in_sql = min(judge(of_table) for _ in range(3))
        stock = _stock(rows, debts, cases)
    return [
        Figure("loading Great Expectations, before any of it", loaded, "s"),
        Figure("judging, results in a file (read, checked, all files of 200 debts)", in_memory, "s", 5),
        Figure("judging, results in a table (deltas computed by SQLite)", in_sql, "s", 5),
        Figure("the same checks as 800 stock expectations on a frame", stock, "s"),
        Figure("ours, of the time of those, file", 100 * in_memory / stock, "%"),
        Figure("ours, of the time of those, table", 100 * in_sql / stock, "%"),
    ]


def _gate(results: EvalResults) -> LaunchGate:
    return LaunchGate(results=results, columns=COLUMNS, measures=MEASURES, min_rows=20)


def _debt(number: int) -> Debt:
    metric = list(MEASURES)[number % len(MEASURES)]
    area, slice_ = f"area{number}", f"s{number % SLICES}"
    comparison = Comparison.DELTA_PCT
    return Debt(
        fingerprint=debt_fingerprint("support", area, metric, comparison, slice_),
        service="support",
        area=area,
        metric=metric,
        comparison=comparison,
        slice=slice_,
        severity=Severity.CRITICAL,
        state=DebtState.APPROVED,
        occurrences=1,
        cycle=1,
        detected_at=NOW,
        last_breach_at=NOW,
        due_at=NOW + timedelta(days=3),
    )


def _budget(debt: Debt) -> Budget:
    lower = debt.metric in ("task_success", "tone")
    return Budget(
        id=debt.budget,
        area=debt.area,
        metric=debt.metric,
        comparison=debt.comparison,
        threshold=-50.0 if lower else 50.0,
        worse=Worse.LOWER if lower else Worse.HIGHER,
        max_duration=timedelta(minutes=20),
        severity=debt.severity,
        slice=debt.slice,
    )


def _write(
    folder: Path, debts: list[Debt], gate: LaunchGate, budgets: tuple[Budget, ...]
) -> dict[str, list[str]]:
    """Write the case files and their expectations; return the ids of the cases by debt."""
    cases, files = CaseFolder(folder / "cases"), GateFolder(folder / "gate")
    right = Expectation(kind=ExpectationKind.CONTAINS, value="refund", approved_by="ada", approved_at=NOW)
    ids: dict[str, list[str]] = {}
    for number, debt in enumerate(debts):
        made = [
            EvalCase(
                id=f"case-{number:03}-{at}",
                debt=debt.fingerprint,
                metric=debt.metric,
                slice=debt.slice,
                input=f"question {number} {at}",
                expectation=right,
                provenance=Provenance(breach="b" * 64, release="v41"),
            )
            for at in range(CASES)
        ]
        cases.write(debt, made)
        files.write(compile_debt(debt, cases, gate, budgets), f"{number:03}")
        ids[debt.fingerprint] = [case.id for case in made]
    return ids


def _rows(cases: dict[str, list[str]]) -> list[Row]:
    random = Random(1)
    ours = [case for ids in cases.values() for case in ids]
    rows = []
    for version in (CANDIDATE, BASELINE):
        for number in range(ROWS // 2):
            known = number < len(ours)
            rows.append(
                {
                    "case_id": ours[number] if known else f"row-{number}",
                    "release": version,
                    "passed": 1 if known or random.random() < 0.9 else 0,
                    "score": round(random.uniform(0.5, 1.0), 3),
                    "slice": f"s{number % SLICES}",
                    "latency_s": round(random.lognormvariate(0, 0.4), 3),
                }
            )
    return rows


def _stock(rows: list[Row], debts: list[Debt], cases: dict[str, list[str]]) -> float:
    """Time the same checks written with the library alone: for each debt three checks and a mean."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.row_conditions import Column

    gxe: Any = gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("results").add_dataframe_asset("results")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.DataFrame(rows)})
    suite = gx.ExpectationSuite(name="stock")
    theirs = Column("release") == CANDIDATE
    for debt in debts:
        ids = cases[debt.fingerprint]
        own = theirs & Column("case_id").is_in(ids)
        meta = {"debt": debt.fingerprint}
        part = theirs & (Column("slice") == debt.slice)
        for expectation in (
            gxe.ExpectColumnDistinctValuesToContainSet(
                column="case_id", value_set=ids, row_condition=theirs, meta=meta
            ),
            gxe.ExpectColumnValuesToNotBeNull(column="passed", row_condition=own, meta=meta),
            gxe.ExpectColumnValuesToBeInSet(column="passed", value_set=[1], row_condition=own, meta=meta),
            gxe.ExpectColumnMeanToBeBetween(
                column="latency_s", max_value=100 + debts.index(debt), row_condition=part, meta=meta
            ),
        ):
            suite.add_expectation(expectation)
    begun = perf_counter()
    result = batch.validate(suite, result_format="COMPLETE")
    took = perf_counter() - begun
    assert result.success
    return took
