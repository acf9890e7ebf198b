"""The section ``cases`` of a budget file: what it takes over, and what it refuses with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError
from rollback_budget.model.case_source import SqlCases
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec

pytestmark = pytest.mark.pure

RULE = """release: v2
baseline: v1
window: 24h
rollback_budget: {quality: {task_success_delta_pct: -2, max_duration_min: 20}}
source: {type: sql, conn_id: log, request_log: {table: llm.calls, time: ended, latency: ms, latency_unit: ms}}
"""


def load(folder: Path, section: str) -> RolloutSpec:
    file = folder / "budget.yaml"
    file.write_text(RULE + section)
    return load_budget(file)


def test_a_case_table_takes_over_what_the_samples_table_says(tmp_path: Path) -> None:
    spec = load(
        tmp_path, "cases: {source: {type: sql, conn_id: log, request_log: {input: prompt, version: v}}}\n"
    )
    assert isinstance(spec.cases.source, SqlCases)
    assert isinstance(spec.source, SqlSource)
    assert spec.cases.source.request_log is not None
    log = spec.cases.source.request_log.over(spec.source.request_log)
    assert (log.table, log.time, log.version, log.input) == ("llm.calls", "ended", "v", "prompt")
    assert log.number_of("p95") == ("ms", 0.001)
    assert RolloutSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_case_table_of_another_name_takes_over_nothing(tmp_path: Path) -> None:
    section = "cases: {source: {type: sql, conn_id: log, request_log: {table: other, time: t}}}\n"
    spec = load(tmp_path, section)
    assert isinstance(spec.cases.source, SqlCases)
    assert isinstance(spec.source, SqlSource)
    assert spec.cases.source.request_log is not None
    assert spec.cases.source.request_log.over(spec.source.request_log).latency is None


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("cases: {sorce: {}}", "did you mean `source`?"),
        ("cases: {source: {conn_id: x}}", "has a type"),
        ("cases: {source: {type: sql, conn_id: x}}", "either `request_log`"),
        ("cases: {source: {type: sql, conn_id: x, request_log: {input: a b}}}", "a column is letters"),
        (
            "cases: {source: {type: sql, conn_id: x, request_log: {metadata: [a, b;c]}}}",
            "a column is letters",
        ),
        ("cases: {source: {type: http_json, conn_id: x}}", "say what to ask"),
        ("cases: {source: {type: http_json, conn_id: x, langfuse: {}, phoenix: {project: p}}}", "keep one"),
        ("cases: {source: {type: http_json, conn_id: x, phoenix: {}}}", "`project` is missing"),
        (
            "cases: {source: {type: http_json, conn_id: x, request: {path: /x/$releas, items: d}}}",
            "did you mean $release?",
        ),
        ("cases: {source: {type: http_json, conn_id: x, request: {path: /x, items: 'd['}}}", "no JMESPath"),
        (
            "cases: {source: {type: http_json, conn_id: x,"
            " request: {path: x, items: d, metadata: {a: '['}}}}",
            "no JMESPath",
        ),
        ("cases: {limit: 0}", "greater than or equal to 1"),
        ("cases: {redact: {patterns: {order: 'ORD-('}}}", "no regular expression"),
        ("cases: {redact: {patterns: {order: 'x*'}}}", "finds the empty text"),
        ("cases: {redact: {patterns: {Order No: 'x'}}}", "a word in lower case"),
        ("cases: {redact: {phone_regions: [germany]}}", "two capital letters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, section: str, problem: str) -> None:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, section + "\n")
    [found] = raised.value.problems
    assert found.line == 6
    assert problem in found.message


def test_a_case_table_without_a_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "budget.yaml"
    rule = RULE.splitlines()[:4]
    file.write_text("\n".join([*rule, "cases: {source: {type: sql, conn_id: x, request_log: {time: t}}}"]))
    with pytest.raises(SpecError, match="`table` is missing, here and in"):
        load_budget(file)
