"""What ``validate`` says of PromQL that people wrote themselves."""

from __future__ import annotations

import pytest

from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.prometheus import PrometheusMetricSource
from tests.engine.builders import budget, rollout

pytestmark = pytest.mark.pure

OWN = (
    "sum by (version) (rate(good_total{$matchers}[$window]))"
    " / sum by (version) (rate(all_total{$matchers}[$window]))"
)


def spec(query: str | PrometheusQuery) -> RolloutSpec:
    one = budget()
    metric = Metric(kind=MetricKind.PROPORTION, query=query)
    return rollout(one, metrics={one.metric: metric}, source=PrometheusSource(conn_id="prometheus"))


def said(query: str | PrometheusQuery) -> list[str]:
    return list(PrometheusMetricSource.warnings(spec(query)))


@pytest.mark.parametrize(
    "query",
    [
        f"{OWN} or vector(0)",
        f"({OWN}) or on() (vector(1))",
        f"clamp_max({OWN} or vector(0), 1) # a comment",
        f'{OWN} or label_replace(vector(0), "version", "v2", "", "")',
        f"{OWN} or 0 * sum by (version) (up)",
        f"{OWN} or (sum by (version) (up) * 0)",
        PrometheusQuery(value=OWN, n="sum by (version) (increase(all_total{$matchers}[$step])) or vector(0)"),
    ],
)
def test_a_constant_in_the_place_of_missing_data_is_warned_of(query: str | PrometheusQuery) -> None:
    [warning] = said(query)
    assert "`or vector(...)`" in warning
    assert "metrics." in warning


@pytest.mark.parametrize(
    "query",
    [
        OWN,
        f"{OWN} or {OWN}",
        f"{OWN} or 100 * {OWN}",
        PrometheusQuery(value=OWN, n="sum by (version) (increase(all_total{$matchers}[$scrape_interval]))"),
        PrometheusQuery(events="good_total", total="all_total"),
    ],
)
def test_of_other_promql_nothing_is_said(query: str | PrometheusQuery) -> None:
    assert said(query) == []


def test_absence_without_a_total_is_warned_of() -> None:
    [warning] = said(PrometheusQuery(events="incidents_total", absent="zero"))
    assert "`absent: zero` says nothing without `total`" in warning


def test_what_cannot_be_parsed_is_said_with_the_parsers_words() -> None:
    [warning] = said("sum by (version) (rate(x{$matchers}[$window])")
    assert "no PromQL that can be parsed here (" in warning


def test_without_the_parser_it_is_said_that_nothing_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "promql_parser", None)
    [warning] = said(OWN)
    assert "rollback-budget[lint]" in warning
