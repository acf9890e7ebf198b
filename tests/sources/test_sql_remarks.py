"""What ``validate`` says of SQL that people wrote themselves."""

from __future__ import annotations

import pytest

from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.sql import SqlMetricSource
from tests.engine.builders import budget, rollout

pytestmark = pytest.mark.pure

BOUNDED = "finished_at > :start AND finished_at <= :end"
OWN = (
    "SELECT date_trunc('minute', finished_at) AS time, version, AVG(ok) AS value, COUNT(*) AS n"
    f" FROM calls WHERE {BOUNDED} AND version IN (:release, :baseline) GROUP BY 1, 2"
)


def said(query: str, *, for_all: bool = False) -> list[str]:
    one = budget()
    metric = Metric(kind=MetricKind.PROPORTION, query=None if for_all else query)
    source = SqlSource(conn_id="warehouse", query=query if for_all else None)
    spec: RolloutSpec = rollout(one, metrics={one.metric: metric}, source=source)
    return list(SqlMetricSource.warnings(spec))


@pytest.mark.parametrize(
    "query",
    [
        OWN.replace("AVG(ok)", "COALESCE(AVG(ok), 0)"),
        OWN.replace("AVG(ok)", "(IFNULL(AVG(ok), -1))"),
        f"{OWN} UNION ALL ({OWN.replace('AVG(ok)', 'COALESCE(AVG(ok), 1.0)')})",
        f"SELECT t, v, COALESCE(x, 0) AS value, n FROM one_minute WHERE {BOUNDED}",
    ],
)
def test_a_constant_in_the_place_of_missing_data_is_warned_of(query: str) -> None:
    [warning] = said(query)
    assert "`metrics.p95.query` gives a constant as `value` where there is NULL" in warning


@pytest.mark.parametrize(
    "query",
    [
        OWN,
        OWN.replace("COUNT(*)", "COALESCE(SUM(requests), 0)"),
        OWN.replace("AVG(ok)", "COALESCE(AVG(ok), AVG(success))"),
        # Of other databases.
        OWN.replace("finished_at > :start", "finished_at > CAST(:start AS timestamptz)"),
        OWN.replace("date_trunc('minute', finished_at)", "toStartOfMinute(finished_at)"),
        OWN.replace("AVG(ok)", "AVG(ok::int) FILTER (WHERE judged)"),
        f"WITH few AS ({OWN}) SELECT * FROM few",
    ],
)
def test_of_other_sql_nothing_is_said(query: str) -> None:
    assert said(query) == []


def test_a_query_that_reads_the_whole_table_with_every_poll_is_warned_of() -> None:
    [warning] = said(OWN.replace(BOUNDED, "judged"))
    assert "reads every row with every poll" in warning


def test_one_query_for_all_metrics_is_looked_at_too() -> None:
    query = f"SELECT t, 'p95', v, COALESCE(x, 0), n FROM one_minute WHERE {BOUNDED}"
    [warning] = said(query, for_all=True)
    assert "`source.query` gives a constant as `value`" in warning


@pytest.mark.parametrize("query", ["DELETE FROM calls WHERE finished_at > :start", f"{OWN}; {OWN}"])
def test_what_is_not_one_select_is_warned_of(query: str) -> None:
    [warning] = said(query)
    assert "must be one SELECT" in warning


def test_what_cannot_be_parsed_is_said_with_the_parsers_words() -> None:
    [warning] = said("SELECT time, version value n FROM FROM")
    assert "no SQL that can be parsed here (" in warning


def test_without_the_parser_it_is_said_that_nothing_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlglot", None)
    [warning] = said(OWN)
    assert "rollback-budget[lint]" in warning
