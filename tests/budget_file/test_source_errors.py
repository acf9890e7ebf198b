"""Every mistake in a source is found by ``validate``, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError

pytestmark = pytest.mark.pure

RULE = """\
release: v2
baseline: v1
window: 24h
rollback_budget: {latency: {p95_delta_pct: +15, max_duration_min: 30}}
source:
"""


def problems_of(folder: Path, source: str) -> list[str]:
    path = folder / "b.yaml"
    path.write_text(RULE + source)
    with pytest.raises(SpecError) as raised:
        load_budget(path)
    return [f"{p.line}:{p.column}: {p.message}" for p in raised.value.problems]


JSON = "  type: http_json\n  conn_id: c\n"
REQUEST = JSON + "  requests:\n    - {path: /x/$version, points: data, series: {p95: {value: v}}, "


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "  {type: sql, conn_id: c, request_log: {table: 'a; DROP', time: t}}",
            "6:48: `table` is a name such",
        ),
        ("  {type: sql, conn_id: c, request_log: {table: a.b, time: 'x\"y'}}", "6:59: a column is letters"),
        (
            "  {type: sql, conn_id: c, request_log: {table: a, time: t, success: {column: 's s'}}}",
            "6:78: a column is letters",
        ),
        (
            "  {type: sql, conn_id: c, request_log: {table: a, time: t, fastest: 2m}}",
            "6:69: `slowest` must be longer than `fastest`",
        ),
        (
            "  {type: sql, conn_id: c, query: SELECT 1, aggregate: {table: a, time: t, requests: n}}",
            "6:44: `aggregate` and `query` both say where to read",
        ),
        (
            "  {type: sql, conn_id: c, scores: {metrics: {h: {}}}}",
            "say where the scores are: either `table`, or `query`",
        ),
        (
            "  {type: sql, conn_id: c, scores: {table: t, query: SELECT 1, metrics: {h: {}}}}",
            "6:46: say where the scores are",
        ),
        (
            "  {type: sql, conn_id: c, scores: {table: t, judge: [a, 'b c'], metrics: {h: {}}}}",
            "6:57: a column is letters",
        ),
        (
            "  {type: sql, conn_id: c, scores: {table: t, where: {a b: c}, metrics: {h: {}}}}",
            "a column is letters",
        ),
        (
            "  {type: sql, conn_id: c, scores: {table: t, metrics: {h: {among: [a], passes_at: 1}}}}",
            "`among` and `passes_at` both say which scores pass",
        ),
        (
            "  {type: sql, conn_id: c, scores: {table: t, metrics: {h: {among: [a]}}}}",
            "name its column as `label`",
        ),
        (
            "  {type: sql, conn_id: c, statement_timeout: 0s}",
            "6:46: `statement_timeout` must be longer than 0",
        ),
        (JSON, "6:3: say what to ask"),
        (REQUEST + "time: 'a['}", "9:74: `time` is no JMESPath"),
        (REQUEST + "body: {from: $strat}}", '"$strat" is no placeholder; did you mean $start?'),
        (REQUEST + "body: {day: 2026-01-01}}", "JSON has no date"),
        (REQUEST + "version: v}", "say whose points these are either by"),
        (REQUEST + "metric: m}", "`metric` (its name in a point) and `each`"),
        (
            JSON + "  datadog:\n    queries: {a: 'sum:x{*}'}\n    series: {p95: {value: b}}",
            '9:18: "a" must be grouped by the version and nothing else: add `by {version}`',
        ),
        (
            JSON + "  datadog:\n    queries: {a: 'sum:x{*} by {version}'}\n    series: {p95: {value: b}}",
            "10:27: `value` uses none of the queries (a)",
        ),
        (
            JSON + "  langfuse:\n    row_limit: 5000\n    queries: []",
            "9:16: `row_limit` is from 10 to 1000",
        ),
        (
            JSON + "  langfuse:\n    queries: [{view: scores-numeric, series: {h: {among: [a]}}}]",
            "`among` is for `view: scores-categorical`",
        ),
        (
            JSON
            + "  langfuse:\n    queries: [{view: scores-categorical, series: {h: {among: [a], measure: x}}}]",
            "`measure` means nothing beside `among`",
        ),
        (
            JSON + "  langfuse:\n    queries: [{view: traces, series: {}}]",
            "9:22: v2 has no traces",
        ),
    ],
)
def test_a_mistake_in_a_source_has_its_place_and_says_what_to_do(
    tmp_path: Path, source: str, problem: str
) -> None:
    found = problems_of(tmp_path, source)
    assert any(problem in line for line in found), found
