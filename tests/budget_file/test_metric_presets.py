"""Ready-made metrics by one line, and what a metric's query may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget, preflight_problems, warnings
from rollback_budget.budget_file.presets import preset_names
from rollback_budget.exceptions import SpecError
from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource, SqlSource
from rollback_budget.model.spec import RolloutSpec

pytestmark = pytest.mark.pure

RULE = """\
release: v2
baseline: v1
window: 24h
rollback_budget: {latency: {p95_delta_pct: +15, max_duration_min: 30}}
"""


def load(folder: Path, text: str) -> RolloutSpec:
    path = folder / "b.yaml"
    path.write_text(RULE + text)
    return load_budget(path)


def problem_of(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as raised:
        load(folder, text)
    return "\n".join(f"{p.line}:{p.column}: {p.message}" for p in raised.value.problems)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_every_metric_of_it_is_asked_for(tmp_path: Path, name: str) -> None:
    spec = load(tmp_path, f"source: {{conn_id: c}}\nmetrics: {{preset: {name}}}\n")
    assert spec.source is not None
    assert spec.metrics
    named = spec.source.metrics or () if isinstance(spec.source, HttpJsonSource) else ()
    table = spec.source.scores or spec.source.log if isinstance(spec.source, SqlSource) else None
    for name, metric in spec.metrics.items():
        assert metric.query is not None or (table is not None and table.gives(name)) or name in named
    assert any(metric.user_impact for metric in spec.metrics.values())


def test_the_pace_of_langfuse_keeps_to_the_limit_of_its_smallest_plan(tmp_path: Path) -> None:
    preset = "source: {conn_id: c}\nmetrics: {preset: langfuse}\n"
    assert not [said for said in warnings(load(tmp_path, preset)) if "Langfuse" in said]
    [said] = [said for said in warnings(load(tmp_path, preset + "watch: {poll: 1m}\n")) if "Langfuse" in said]
    assert "about 1440 requests a day" in said
    assert "takes 100 of an organization" in said


def test_hourly_scores_of_langfuse_are_asked_for_by_the_hour(tmp_path: Path) -> None:
    scores = "source: {conn_id: c}\nmetrics: {preset: langfuse_scores}\nwatch: {poll: 1m}\n"
    path = tmp_path / "b.yaml"
    path.write_text(
        RULE.replace("latency: {p95_delta_pct: +15", "quality: {helpfulness_delta_pct: -5") + scores
    )
    assert not [said for said in warnings(load_budget(path)) if "Langfuse" in said]


def test_a_budget_overrides_single_metrics_and_options_of_a_preset(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "source: {conn_id: c, version_label: release}\n"
        "metrics:\n"
        "  preset: vllm\n"
        "  p95: {query: {gauge: latency_p95}}\n"
        "  mine: {kind: mean, query: {sum: tokens_total, total: requests_total}}\n",
    )
    assert isinstance(spec.source, PrometheusSource)
    assert spec.source.version_label == "release"
    assert spec.metric("p95").kind is MetricKind.QUANTILE
    assert spec.metric("p95").unit == "s"
    assert spec.metric("p95").query == PrometheusQuery(gauge="latency_p95")
    assert spec.metric("mine").query == PrometheusQuery(sum="tokens_total", total="requests_total")
    assert not spec.metric("kv_cache_usage").user_impact
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec


def test_an_unknown_preset_is_a_problem_at_its_place_that_names_the_nearest(tmp_path: Path) -> None:
    said = problem_of(tmp_path, "source: {type: prometheus, conn_id: c}\nmetrics: {preset: vlm}\n")
    assert said == '6:19: there is no preset "vlm"; did you mean vllm?'


def test_a_preset_for_another_kind_of_source_is_a_problem(tmp_path: Path) -> None:
    said = problem_of(tmp_path, "source: {type: sql, conn_id: c}\nmetrics: {preset: vllm}\n")
    assert '"vllm" is for `source: {type: prometheus}`, here it is sql' in said


def test_a_budget_with_a_preset_and_no_source_or_a_recorded_one_can_be_replayed(tmp_path: Path) -> None:
    assert load(tmp_path, "metrics: {preset: vllm}\n").source is None
    recorded = load(tmp_path, "source: {type: recorded, path: s.csv}\nmetrics: {preset: vllm}\n")
    assert recorded.metric("p95").kind is MetricKind.QUANTILE


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("kind: proportion, query: {events: a_total}", "`total` is missing"),
        ("kind: gauge, query: {events: a_total, total: b_total}", "`kind: proportion` or `kind: count`"),
        ("kind: mean, query: {sum: a, gauge: b}", "one of `events`"),
        ("kind: mean, query: {}", "one of `events`"),
        ("kind: gauge, query: {gauge: b, total: c}", "`total` means nothing beside `gauge`"),
        ("kind: quantile, query: {histogram: h_bucket}", 'the plain name, "h", without _bucket'),
        ("kind: gauge, query: {gauge: 'up{a=b}'}", "is not readable at"),
        ("kind: gauge, query: {gauge: 'sum(up)'}", "is no selector"),
        ("kind: gauge, query: {gauge: '{a=\"b\"}'}", "without the name of a metric"),
        ("kind: gauge, query: {guage: up}", "did you mean `gauge`?"),
        ("query: 'rate(x_total[5m])'", "must say $matchers"),
        ("query: {value: 'rate(x_total[5m])'}", "must say $matchers"),
        ("kind: quantile, query: {histogram: h, bounds: [1, 2]}", "add `native: true`"),
    ],
)
def test_a_query_that_prometheus_could_not_answer_is_a_problem_in_the_file(
    tmp_path: Path, metric: str, wanted: str
) -> None:
    text = f"source: {{type: prometheus, conn_id: c}}\nmetrics: {{m: {{{metric}}}}}\n"
    assert wanted in problem_of(tmp_path, text)


def test_the_queries_of_the_page_load_as_they_stand(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "sources.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    for block in blocks:
        source = "" if "source:" in block else "source: {type: prometheus, conn_id: prometheus}\n"
        spec = load(tmp_path, source + block)
        assert bool(spec.metrics) is ("metrics:" in block)


def test_looks_that_are_shorter_than_a_scrape_are_warned_of(tmp_path: Path) -> None:
    text = "source: {type: prometheus, conn_id: c}\nwatch: {step: 10s}\n"
    assert any("looks without a scrape" in warning for warning in warnings(load(tmp_path, text)))


def test_a_budget_on_prometheus_without_a_query_does_not_ship(tmp_path: Path) -> None:
    spec = load(tmp_path, "source: {type: prometheus, conn_id: c}\n")
    assert any("`metrics.p95.query` is missing" in problem for problem in preflight_problems(spec))


def test_labels_that_prometheus_does_not_know_are_problems(tmp_path: Path) -> None:
    said = problem_of(
        tmp_path, "source: {type: prometheus, conn_id: c, version_label: a.b, labels: {x-y: z}}\n"
    )
    assert "`version_label` names a label" in said
    assert "`labels` names a label" in said
