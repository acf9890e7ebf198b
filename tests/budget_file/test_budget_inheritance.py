"""What a service shares stands once; what is wrong in it is said there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError
from rollback_budget.model.source import RecordedSource
from rollback_budget.model.target import HttpTarget

pytestmark = pytest.mark.pure

BUDGET = """\
release: new
baseline: old
window: 24h
rollback_budget:
  latency: {p95_delta_pct: 15, max_duration_min: 30}
"""


def write(folder: Path, **files: str) -> Path:
    """Write ``name.yaml`` files and return the budget's path."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / "budget.yaml"


def places(path: Path) -> list[tuple[str, int]]:
    """Return file name and line of every problem."""
    with pytest.raises(SpecError) as caught:
        load_budget(path)
    return [(Path(problem.file).name, problem.line) for problem in caught.value.problems]


def test_defaults_beside_the_budget_are_merged_deeply_and_overridden(tmp_path: Path) -> None:
    shared = (
        "owner: team\nservice: s\nwatch: {poll: 10s, step: 30s}\nmetrics: {p95: {kind: quantile, unit: s}}\n"
    )
    own = BUDGET + "service: mine\nwatch: {poll: 5s}\nmetrics: {p95: {unit: ms}}\n"
    spec = load_budget(write(tmp_path, defaults=shared, budget=own))
    assert (spec.owner, spec.service) == ("team", "mine")
    assert (spec.watch.poll, spec.watch.step) == (timedelta(seconds=5), timedelta(seconds=30))
    assert (spec.metric("p95").kind, spec.metric("p95").unit) == ("quantile", "ms")


def test_an_area_is_replaced_as_a_whole_and_others_are_inherited(tmp_path: Path) -> None:
    shared = "rollback_budget:\n  latency: {p50_above: 1, max_duration: 5m}\n  safety: {errors_increase: 0}\n"
    spec = load_budget(write(tmp_path, defaults=shared, budget=BUDGET))
    assert [budget.id for budget in spec.budgets] == ["latency.p95_delta_pct", "safety.errors_increase"]


def test_extends_replaces_defaults_and_may_extend_further(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        defaults="owner: nobody\n",
        _base="owner: base\nservice: base\nwindow: 1h\n",
        _middle="extends: _base.yaml\nservice: middle\n",
        budget=BUDGET.replace("window: 24h", "extends: _middle.yaml"),
    )
    spec = load_budget(path)
    assert (spec.owner, spec.service, spec.window) == ("base", "middle", timedelta(hours=1))


def test_a_source_of_another_type_and_a_body_replace_the_inherited_ones(tmp_path: Path) -> None:
    target = "{conn_id: c, read: {path: /r}, write: {path: /w, body: {a: 1}, headers: {A: a}}}"
    own = "source: {type: recorded, path: s.csv}\ntarget: {write: {body: {b: [2, null]}, headers: {B: b}}}\n"
    shared = f"source: {{type: sql, conn_id: db}}\ntarget: {target}\n"
    spec = load_budget(write(tmp_path, defaults=shared, budget=BUDGET + own))
    assert spec.source == RecordedSource(path="s.csv")
    assert isinstance(spec.target, HttpTarget)
    assert spec.target.write.body == {"b": [2, None]}
    assert spec.target.write.headers == {"A": "a", "B": "b"}


def test_a_problem_is_in_the_file_that_has_it(tmp_path: Path) -> None:
    shared = "owner: team\nwatch:\n  pol: 10s\nowner: again\n"
    found = places(write(tmp_path, defaults=shared, budget=BUDGET + "srvice: x\n"))
    assert found == [("budget.yaml", 6), ("defaults.yaml", 3), ("defaults.yaml", 4)]


def test_an_inherited_file_that_cannot_be_read_hides_no_problem_and_invents_none(tmp_path: Path) -> None:
    own = BUDGET.replace("window: 24h", "srvice: x")
    found = places(write(tmp_path, defaults="a: *b", budget=own))
    assert found == [("budget.yaml", 3), ("defaults.yaml", 1)]


@pytest.mark.parametrize("extends", ["nothing.yaml", "budget.yaml", "_loop.yaml", ".", "[a]", "", "'a\\0b'"])
def test_a_wrong_extends_is_a_problem_at_its_place(tmp_path: Path, extends: str) -> None:
    own = BUDGET.replace("window: 24h\n", "") + f"extends: {extends}\n".replace("'", '"')
    found = places(write(tmp_path, _loop="extends: budget.yaml\n", budget=own))
    assert set(found) <= {("budget.yaml", 5), ("_loop.yaml", 1)}


def test_an_empty_defaults_file_is_fine(tmp_path: Path) -> None:
    assert load_budget(write(tmp_path, defaults="# later\n", budget=BUDGET)).owner is None
