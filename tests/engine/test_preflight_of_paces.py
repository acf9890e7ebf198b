"""What preflight says of metrics with a pace of their own, and of judges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.forecast_table import forecast_lines
from rollback_budget.engine.preflight_forecast import BudgetForecast, PreflightForecast, forecast_watch
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, RELEASE, START, arm, at, budget, rollout

pytestmark = pytest.mark.pure

SCORE = budget("score", Comparison.DELTA_PP, -20.0, minutes=120, worse=Worse.LOWER, method=Method.AUTO)
SUCCESS = budget("task_success", Comparison.DELTA_PP, -2.0, minutes=20, worse=Worse.LOWER, method=Method.AUTO)
HOUR = timedelta(hours=1)
#: Minutes of a record of 12 hours.
RECORD = 12 * 60


def score_metric(**pace: timedelta) -> dict[str, Metric]:
    proportion = MetricKind.PROPORTION
    return {"score": Metric(kind=proportion, **pace), "task_success": Metric(kind=proportion)}


def hourly(hours: Sequence[int], *judges: str, release: str | None = None) -> list[Sample]:
    """A score of both versions at the end of each of these hours, by judges that take turns.

    :param release: who judges the release, where it is somebody else.
    """
    return [
        Sample(at(60 * hour), "score", version, 0.9, 50.0, judge=one)
        for place, hour in enumerate(hours)
        for judge in [judges[place % len(judges)] if judges else None]
        for version, one in ((RELEASE, release or judge), (BASELINE, judge))
    ]


def forecast_of_record(
    samples: Sequence[Sample], *budgets: Budget, record: datetime | None = START, **more: Any
) -> PreflightForecast:
    """Forecast from the last hour of twelve, as the command line does from a file.

    :param record: where the file begins; None for a source, of which as much was asked for as is looked at.
    """
    spec = rollout(*budgets, **more)
    return forecast_watch(spec, samples, start=at(RECORD - 60), end=at(RECORD), record_from=record)


def score_of(samples: Sequence[Sample], **pace: timedelta) -> BudgetForecast:
    forecast = forecast_of_record(samples, SCORE, metrics=score_metric(**pace))
    return forecast.budgets[0]


def said_of(found: BudgetForecast) -> str:
    return "\n".join((*found.warnings, *found.errors))


def test_where_the_lag_is_longer_than_the_record_nothing_is_said_to_be_nan() -> None:
    found = score_of(hourly(range(1, 13)), every=HOUR, lag=13 * HOUR)
    (said,) = found.warnings
    assert said == (
        "no look of it is decided yet (`lag: 13h`): the first value of model-v41 is of 2026-10-01 13:00 UTC,"
        " and by now looks up to 2026-10-01 11:00 UTC are: it takes a longer record"
    )


def test_samples_that_are_all_older_than_what_is_looked_at_are_not_said_to_be_nan() -> None:
    minutes = arm(BASELINE, [0.9] * 20, metric="task_success", n=60)
    found = forecast_of_record(minutes, SUCCESS, metrics=score_metric()).budgets[0]
    (said,) = found.warnings
    assert said == (
        "nothing came of model-v41 after 2026-10-01 12:20 UTC, which is before what is looked at"
        " (2026-10-01 23:00 to 2026-10-02 00:00 UTC)"
    )


def test_of_versions_that_two_judges_scored_only_that_is_said() -> None:
    found = score_of(hourly(range(1, 13), "judge-a", release="judge-b"), every=HOUR)
    assert found.warnings == ()
    (error,) = found.errors
    assert error.startswith(
        "not scored by one judge, model-v41 by judge-a and model-v42 by judge-b (12 looks"
    )


def test_judges_that_take_turns_are_warned_of_and_nothing_is_forecast() -> None:
    found = score_of(hourly(range(1, 13), "judge-a", "judge-b"), every=HOUR)
    (said,) = found.warnings
    assert said == (
        "its judge changed 11 times here, last from judge-a to judge-b at 2026-10-02 00:00 UTC, and each"
        " change starts the comparison over: none stayed for more than 1 h, which cannot use up 2 h, so that"
        " it is never judged: let one judge score all"
    )
    assert [(one.after, one.words) for one in found.forecasts] == [(None, "never: its judges change")] * 2
    known = score_of(hourly(range(1, 13), "judge-a"), every=HOUR)
    assert said_of(known) == ""
    assert known.forecasts[0].after is not None


def test_judges_that_stay_for_the_duration_and_not_until_harm_is_found_are_not_forecast_from() -> None:
    """Two hours are used up, and to find twice the threshold takes three."""
    turns = ["a", "a", "b", "b"]
    unhurried = score_of(hourly(range(1, 13), *turns), every=HOUR)
    alone = score_of(hourly(range(1, 13), "a"), every=HOUR)
    assert alone.forecasts[0].after is not None
    assert alone.forecasts[0].after > 2 * HOUR
    assert unhurried.forecasts[0].words == "never: its judges change"
    (said,) = unhurried.warnings
    assert said.endswith("starts the comparison over: keep one judge while a release is watched")


def test_one_change_of_the_judge_is_warned_of_and_harm_is_forecast_all_the_same() -> None:
    found = score_of(hourly(range(1, 13), *(11 * ["a"]), "b"), every=HOUR)
    (said,) = found.warnings
    assert said.startswith("its judge changed 1 time here, last from a to b at 2026-10-02 00:00 UTC")
    assert found.forecasts[0].after is not None
    at_once = SCORE.model_copy(update={"max_duration": timedelta(0)})
    forecast = forecast_of_record(hourly(range(1, 13), "a", "b"), at_once, metrics=score_metric(every=HOUR))
    assert forecast.budgets[0].warnings == ()


def test_judges_are_held_against_the_duration_where_every_look_is_decided_alone() -> None:
    alone = SCORE.model_copy(update={"max_duration": 8 * HOUR, "method": Method.THRESHOLD})
    words = []
    for judges in (["a"], [*(6 * ["a"]), *(6 * ["b"])], [*(4 * ["a"]), *(4 * ["b"])]):
        samples = hourly(range(1, 13), *judges)
        forecast = forecast_of_record(samples, alone, metrics=score_metric(every=HOUR))
        words.append(forecast.budgets[0].forecasts[0].words)
    assert words[0] == words[1] == "not forecast: every look is decided by its value alone"
    assert words[2] == "never: its judges change"


MINUTES = arm(BASELINE, [0.9] * RECORD, metric="task_success", n=60)


@pytest.mark.parametrize(
    ("begins", "came", "known_of"),
    [
        (0, range(1, 13), (12, 12)),
        # What began before the record is looked at where its value came, and what lacks in between counts.
        (30, range(1, 13), (12, 12)),
        (30, range(2, 13), (11, 11)),
        (240, range(5, 13), (8, 8)),
        (0, [1, 2, 3, 12], (4, 12)),
        (0, [5, 6, 12], (3, 12)),
    ],
)
def test_looks_that_lie_before_a_record_are_not_counted(
    begins: int, came: Sequence[int], known_of: tuple[int, int]
) -> None:
    samples = [*MINUTES[begins:], *hourly(came)]
    forecast = forecast_of_record(
        samples, SUCCESS, SCORE, metrics=score_metric(every=HOUR), record=at(begins)
    )
    found = forecast.budgets[1]
    assert (found.baseline.known, found.looks) == known_of
    if known_of[0] == known_of[1]:
        assert found.baseline.per_minute == pytest.approx(50 / 60)
        assert found.method is Method.SEQUENTIAL
    from_source = forecast_of_record(
        samples, SUCCESS, SCORE, metrics=score_metric(every=HOUR), record=None
    ).budgets[1]
    assert from_source.looks == 12


def test_a_late_look_that_may_not_have_settled_counts_only_where_its_value_came() -> None:
    lag = timedelta(minutes=61)
    for came, looks in ((range(1, 12), 11), (range(1, 11), 10), ([1, 2, 3], 10)):
        samples = [*MINUTES, *hourly(came)]
        found = forecast_of_record(
            samples, SUCCESS, SCORE, metrics=score_metric(every=HOUR, lag=lag)
        ).budgets[1]
        assert (found.baseline.known, found.looks) == (len(came), looks)
        if len(came) == looks:
            assert found.baseline.per_minute == pytest.approx(50 / 60)


def test_the_only_look_of_a_record_is_looked_at() -> None:
    begins = RECORD - 90
    samples = [*MINUTES[begins:], *hourly([12])]
    metrics = score_metric(every=HOUR)
    found = forecast_of_record(samples, SUCCESS, SCORE, metrics=metrics, record=at(begins)).budgets[1]
    assert found.looks == 1
    assert (found.method, found.warnings) == (Method.SEQUENTIAL, ())


def test_where_every_value_is_older_the_heading_says_from_when() -> None:
    slow = forecast_of_record(hourly(range(1, 13)), SCORE, metrics=score_metric(every=HOUR))
    heading, *_, last = forecast_lines(slow)
    assert heading.startswith("the last 12 h to 2026-10-02 00:00 UTC")
    assert last.startswith(SCORE.id)
    assert "values from" not in last
    both = forecast_of_record(
        [*MINUTES, *hourly(range(1, 13))], SUCCESS, SCORE, metrics=score_metric(every=HOUR)
    )
    heading, *_, last = forecast_lines(both)
    assert heading.startswith("the last 1 h to 2026-10-02 00:00 UTC")
    assert last == f"{SCORE.id}: values from 2026-10-01 12:00 UTC on, 12 looks"


def test_of_a_budget_without_a_look_that_is_said() -> None:
    samples = [*MINUTES, *hourly(range(1, 13))]
    forecast = forecast_of_record(samples, SUCCESS, SCORE, metrics=score_metric(every=HOUR, lag=13 * HOUR))
    assert forecast.budgets[1].looks == 0
    assert forecast_lines(forecast)[-1] == f"{SCORE.id}: no look of it is decided yet"


@pytest.mark.parametrize(
    ("hours", "minutes", "words"),
    [
        (48, 120, "never: no look of 2d lies in the window"),
        (48, 0, "never: no look of 2d lies in the window"),
        (12, 120, "never: one look of 12h at most lies in the window"),
        (12, 0, "at the first bad look"),
        (6, 120, ""),
    ],
)
def test_what_can_never_be_found_within_the_window_is_said_so(hours: int, minutes: int, words: str) -> None:
    every = timedelta(hours=hours)
    line = SCORE.model_copy(update={"max_duration": timedelta(minutes=minutes)})
    samples = hourly([12 - hours * look for look in range(12)])
    metrics = score_metric(every=every)
    found = forecast_of_record(samples, line, metrics=metrics, record=None, minutes=RECORD).budgets[0]
    assert {one.words for one in found.forecasts} == {words}
