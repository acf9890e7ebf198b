"""Deltas of a candidate against its baseline: the same in memory, in SQL and by plain arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text

from rollback_budget.evals.result import CaseResult, Results
from rollback_budget.evals.row import read_number
from rollback_budget.gate.compile import delta_expectation
from rollback_budget.gate.delta import DeltaRule, rank_of
from rollback_budget.gate.gx_run import run_suite
from rollback_budget.gate.rows import GateData, SqlRows, rows_query
from rollback_budget.gate.suite import ExpectationOutcome, OutcomeError, build_suite
from rollback_budget.model.eval_columns import Columns
from tests.support.examples import examples

pytestmark = pytest.mark.database

COLUMNS = Columns(numbers=("latency_s",))
Rows = list[tuple[str, str | None, bool | None, float | None]]

ROWS: st.SearchStrategy[Rows] = st.lists(
    st.tuples(
        st.sampled_from(["new", "old", "other"]),
        st.sampled_from(["de", "fr", None]),
        st.booleans(),
        st.floats(0.001, 1000).map(lambda value: round(value, 3)),
    ),
    min_size=4,
    max_size=60,
)
RULES = st.builds(
    lambda column, quantile, comparison, threshold, slice_, rows: DeltaRule(
        measure=column,
        column=column,
        quantile=quantile if column == "latency_s" else None,
        comparison=comparison,
        threshold=threshold,
        worse="lower" if comparison == "below" or (threshold < 0 and comparison != "above") else "higher",
        slice=slice_,
        min_rows=rows,
    ),
    st.sampled_from(["passed", "latency_s"]),
    st.none() | st.sampled_from([0.05, 0.5, 0.95, 0.07]),
    st.sampled_from(["delta_pct", "delta_pp", "delta", "above", "below"]),
    st.sampled_from([-20.0, -2.0, 5.0, 15.0]),
    st.sampled_from([None, "de", "nowhere"]),
    st.integers(1, 6),
)


def plainly(rule: DeltaRule, rows: Rows) -> bool:
    """Say by plain arithmetic whether the new version is within the rule."""

    def value(version: str) -> float | None:
        found = [
            (float(passed) if passed is not None else None) if rule.column == "passed" else latency
            for name, slice_, passed, latency in rows
            if name == version and rule.slice in (None, slice_)
        ]
        if len(found) < rule.min_rows or None in found:
            return None
        values = sorted(one for one in found if one is not None)
        if rule.quantile is None:
            return math.fsum(values) / len(values)
        return next(v for at, v in enumerate(values, 1) if at / len(values) >= rule.quantile - 1e-12)

    new = value("new")
    old = value("old") if rule.comparison.startswith("delta") else 0.0
    if new is None or old is None:
        return False
    if rule.comparison == "delta_pct" and old == 0:
        return False
    delta = {
        "delta_pct": lambda: 100 * (new - old) / abs(old),
        "delta_pp": lambda: 100 * (new - old),
        "delta": lambda: new - old,
    }.get(rule.comparison, lambda: new)()
    tolerance = 1e-9 * max(1.0, abs(rule.threshold))
    if rule.worse == "higher":
        return delta <= rule.threshold + tolerance
    return delta >= rule.threshold - tolerance


def finite(number: float | None) -> float | None:
    """Return a number as a reader of results does."""
    return read_number("", "latency_s", number)


def in_memory(rows: Rows) -> GateData:
    cases = [
        CaseResult(str(at), version, passed, None, slice_, None, {"latency_s": finite(latency)})
        for at, (version, slice_, passed, latency) in enumerate(rows)
    ]
    return GateData(Results("memory", "0", tuple(cases)))


def in_sql(engine: Engine, rows: Rows) -> GateData:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS results"))
        connection.execute(
            text(
                "CREATE TABLE results (case_id TEXT, release TEXT, slice TEXT, passed BOOLEAN,"
                " latency_s DOUBLE PRECISION)"
            )
        )
        connection.execute(
            text("INSERT INTO results VALUES (:id, :release, :slice, :passed, :latency)"),
            [
                {"id": str(at), "release": version, "slice": slice_, "passed": passed, "latency": latency}
                for at, (version, slice_, passed, latency) in enumerate(rows)
            ],
        )
    query = rows_query(engine, "results", ["new", "old"], COLUMNS)
    return GateData(Results("table", "0", ()), SqlRows(engine, query))


def outcomes(data: GateData, rules: Sequence[DeltaRule]) -> list[ExpectationOutcome]:
    suite = build_suite([], [delta_expectation(rule, "critical") for rule in rules], "new", "old")
    said = {outcome.check: outcome for outcome in run_suite(suite.checks, data)}
    return [said[check.id] for check in suite.checks]


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Rows], GateData]:
    """Where the rows are."""
    if request.param == "memory":
        return in_memory
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('evals') / 'evals.db'}"
    else:
        url = request.getfixturevalue("postgres").database()
    engine = create_engine(url)
    return lambda rows: in_sql(engine, rows)


@settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, rules=st.lists(RULES, min_size=1, max_size=6))
def test_a_delta_says_what_plain_arithmetic_says(
    place: Callable[[Rows], GateData], rows: Rows, rules: list[DeltaRule]
) -> None:
    said = outcomes(place(rows), rules)
    assert [outcome.error for outcome in said] == [None] * len(rules)
    assert [outcome.success for outcome in said] == [plainly(rule, rows) for rule in rules]


@pytest.mark.parametrize("lost", [None, math.nan, math.inf])
@pytest.mark.parametrize("version", ["new", "old"])
def test_one_row_without_a_number_fails_the_delta(
    place: Callable[[Rows], GateData], lost: float | None, version: str
) -> None:
    rows: Rows = [(name, None, True, 1.0) for name in ("new", "old") for _ in range(5)]
    rule = DeltaRule(measure="latency", column="latency_s", comparison="delta", threshold=1, worse="higher")
    rule = rule.model_copy(update={"min_rows": 3})
    assert outcomes(place(rows), [rule])[0].success
    data = place([*rows, (version, None, True, lost)])
    [outcome] = outcomes(data, [rule])
    assert not outcome.success
    assert f"1 of 6 rows of {version} without a number" in outcome.detail


def test_a_crashed_case_fails_the_rate(place: Callable[[Rows], GateData]) -> None:
    rows: Rows = [(name, None, True, 1.0) for name in ("new", "old") for _ in range(5)]
    rule = DeltaRule(
        measure="rate", column="passed", comparison="delta_pp", threshold=-50, worse="lower", min_rows=3
    )
    assert outcomes(place(rows), [rule])[0].success
    [outcome] = outcomes(place([*rows, ("new", None, None, 1.0)]), [rule])
    assert not outcome.success


def test_a_delta_on_a_column_that_is_not_there_is_an_error(place: Callable[[Rows], GateData]) -> None:
    rule = DeltaRule(measure="cost", column="cost", comparison="above", threshold=1, worse="higher")
    [outcome] = outcomes(place([("new", None, True, 1.0)]), [rule])
    assert (outcome.success, outcome.error) == (False, OutcomeError.COLUMN)


def test_names_of_versions_and_slices_are_data(place: Callable[[Rows], GateData]) -> None:
    rows: Rows = [(name, "'; DROP TABLE results; --", True, 1.0) for name in ("new", "old") for _ in range(3)]
    rule = DeltaRule(
        measure="rate",
        column="passed",
        comparison="delta_pp",
        threshold=-2,
        worse="lower",
        slice="'; DROP TABLE results; --",
        min_rows=3,
    )
    assert outcomes(place(rows), [rule])[0].success


@given(count=st.integers(1, 2000), hundredths=st.integers(1, 99))
def test_a_rank_is_exact_in_hundredths(count: int, hundredths: int) -> None:
    assert rank_of(hundredths / 100, count) == -(-hundredths * count // 100)


def test_passed_is_read_from_words_numbers_and_scores_in_sql(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'evals.db'}")
    cells: list[tuple[Any, Any, float | None]] = [
        ("PASS", 0.5, 1.0),
        (0, 0.5, 0.0),
        ("1.0", None, 1.0),
        ("nan", 0.5, None),
        ("true", 9e999, None),
        (None, 0.5, None),
    ]
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE results (case_id, release, passed, score)"))
        connection.execute(
            text("INSERT INTO results VALUES (:at, 'new', :passed, :score)"),
            [{"at": at, "passed": passed, "score": score} for at, (passed, score, _) in enumerate(cells)],
        )
    query = rows_query(engine, "results", ["new"], Columns())
    with engine.connect() as connection:
        rows = connection.execute(query).all()
        assert [row[2] for row in rows] == [wanted for *_, wanted in cells]
        marked = rows_query(engine, "results", ["new"], Columns(pass_mark=0.5))
        assert [row[2] for row in connection.execute(marked)] == [1.0, 1.0, None, 1.0, None, 1.0]
    assert json.dumps([row[0] for row in rows]) == '["0", "1", "2", "3", "4", "5"]'
