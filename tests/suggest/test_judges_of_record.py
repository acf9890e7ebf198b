"""A record in which the judge changes is no time without change, and the suggestion says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollback_budget.cli.design_effect import design_effect
from rollback_budget.engine.sample import Sample
from rollback_budget.model.budget import Comparison
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.judges import judge_warnings, stretches_of
from rollback_budget.suggest.record import record_of
from rollback_budget.suggest.suggestion import suggest_rule
from tests.suggest.records import DAY, JUDGE, METRIC, RELEASE, START, points, rollout, scores, traffic

pytestmark = [pytest.mark.pure, pytest.mark.slow]

HOUR = timedelta(hours=1)
BUDGET = points(-4.0, 120, id=f"quality.{JUDGE}_delta", metric=JUDGE, comparison=Comparison.DELTA)
SPEC = rollout(BUDGET, hours=12, metrics={JUDGE: Metric(every=HOUR)})


def judged(by: Callable[[int], str | None], days: int = 3) -> list[Sample]:
    """Hourly scores; ``by`` gives the judge of the look that ends so many hours after the start."""
    return [one._replace(judge=by((one.time - START) // HOUR)) for one in scores(days * DAY)]


def warned(samples: list[Sample], spec: RolloutSpec = SPEC) -> list[str]:
    return judge_warnings(spec, record_of(spec, samples).frame, spec.budgets[0])


def test_a_change_of_the_judge_is_said_with_its_time_and_what_to_record() -> None:
    (said,) = warned(judged(lambda hour: "judge-a" if hour <= 30 else "judge-b"))
    assert f"the judge of {BUDGET.id} changed from judge-a to judge-b at 2026-10-02 06:00 UTC" in said
    assert "record from that time on, with `--from 2026-10-02T06:00:00Z`" in said


def test_what_is_recorded_from_that_time_on_has_one_judge() -> None:
    samples = judged(lambda hour: "judge-a" if hour <= 30 else "judge-b")
    record = record_of(SPEC, samples)
    first, latest = stretches_of(SPEC, record.frame, BUDGET)
    assert first.end == latest.begin
    assert latest.end == record.end
    rest = [one for one in samples if one.time > latest.begin]
    assert {one.judge for one in rest} == {"judge-b"}
    assert warned(rest) == []
    assert any(one.judge == "judge-a" for one in samples if one.time > latest.begin - HOUR)


def test_a_change_so_late_that_too_little_follows_asks_for_a_day_of_the_new_judge() -> None:
    (said,) = warned(judged(lambda hour: "judge-a" if hour <= 66 else "judge-b"))
    assert "with `--from 2026-10-03T18:00:00Z`, once it is a day or more (so far 6 h)" in said


def test_judges_that_take_turns_are_named_with_how_often_they_change() -> None:
    (said,) = warned(judged(lambda hour: f"judge-{'abcdef'[hour // 6 % 6]}"))
    assert f"the judges of {BUDGET.id} take turns, judge-a, judge-b, judge-c, judge-d and 2 more" in said
    assert "12 changes, the first at 2026-10-01 05:00 UTC, the latest to judge-a at 2026-10-03 23:00" in said
    assert "let one judge score a day or more, and record that with `--from` (judge-b stayed longest" in said


def test_where_judges_took_turns_around_a_day_of_one_judge_that_day_is_what_to_record() -> None:
    (said,) = warned(judged(lambda hour: "judge-b" if 6 < hour <= 60 else "judge-a"))
    assert "`--from 2026-10-01T06:00:00Z` and `--to 2026-10-03T12:00:00Z`" in said


@pytest.mark.parametrize(
    "by",
    [
        lambda _: None,
        lambda _: "judge-a",
        lambda hour: "judge-a" if hour % 3 else None,
    ],
)
def test_one_judge_or_none_that_is_known_is_no_warning(by: Callable[[int], str | None]) -> None:
    assert warned(judged(by)) == []


def test_looks_whose_versions_two_judges_scored_are_said_to_be_left_out() -> None:
    samples = [
        one._replace(judge="judge-b") if one.version == RELEASE and one.time == START + 5 * HOUR else one
        for one in judged(lambda _: "judge-a")
    ]
    (said,) = warned(samples)
    assert said.startswith(f"1 look of {BUDGET.id} is left out: not scored by one judge")


def test_a_suggestion_warns_of_the_budget_whose_judge_changed_and_of_no_other() -> None:
    spec = rollout(points(-10.0, 10), BUDGET, hours=4, metrics={**rollout().metrics, **SPEC.metrics})
    samples = [*traffic(2 * DAY, n=60), *judged(lambda hour: "judge-a" if hour < 20 else "judge-b", days=2)]
    steady, changed = suggest_rule(spec, samples, days=100).budgets
    assert any(said.startswith(f"the judge of {BUDGET.id} changed") for said in changed.warnings)
    assert not any("judge" in said for said in steady.warnings)


def test_a_design_effect_warns_of_a_judge_that_changed_and_is_estimated_all_the_same(tmp_path: Path) -> None:
    budget, series = tmp_path / "budget.yaml", tmp_path / "series.csv"
    budget.write_text(
        "release: model-v42\nbaseline: model-v41\nwindow: 24h\n"
        "metrics: {task_success: {kind: proportion}}\n"
        "rollback_budget: {quality: {task_success_delta_pp: -2.0, max_duration_min: 20}}\n"
    )
    rows = [
        f"{one.time.isoformat()},{METRIC},{one.version},{one.value!r},{one.n},"
        f"{'judge-a' if one.time <= START + 6 * HOUR else 'judge-b'}"
        for one in traffic(600)
    ]
    series.write_text("\n".join(["time,metric,version,value,n,judge", *rows]))
    arguments = [str(budget), "--series", str(series)]
    shown = CliRunner().invoke(design_effect, arguments)
    name = "quality.task_success_delta_pp"
    change = f"the judge of {name} changed from judge-a to judge-b at 2026-10-01 06:00 UTC"
    assert f"warning: {name}: {change}" in shown.stderr
    assert f"{name}: 1." in shown.stdout
    said = json.loads(CliRunner().invoke(design_effect, [*arguments, "--json"]).stdout)
    assert said["warnings"][name].startswith(change)
    assert list(said["budgets"]) == [name]
