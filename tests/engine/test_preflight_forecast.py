"""What the samples of one hour promise about a watch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import inf, nan
from random import Random
from typing import Any

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.detection import expected_detection, expected_exceedance_detection
from rollback_budget.engine.fold import Fold, Window
from rollback_budget.engine.forecast_table import forecast_lines, warning_lines
from rollback_budget.engine.frame import Arms, Frame
from rollback_budget.engine.histogram import quantile_in
from rollback_budget.engine.preflight_forecast import BudgetForecast, PreflightForecast, forecast_watch
from rollback_budget.engine.time_us import datetime_to_us
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.engine.test_exceedances import COARSE, FINE, RULE, SPEC, counted, latencies

pytestmark = pytest.mark.pure

SUCCESS = budget(
    "task_success",
    Comparison.DELTA_PP,
    -2.0,
    minutes=20,
    area="quality",
    worse=Worse.LOWER,
    method=Method.AUTO,
)
INCIDENTS = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", method=Method.AUTO)
KINDS = {
    "task_success": Metric(kind=MetricKind.PROPORTION),
    "incidents": Metric(kind=MetricKind.COUNT),
    "p95": Metric(kind=MetricKind.QUANTILE, unit="s"),
    "cost": Metric(kind=MetricKind.GAUGE),
}


def forecast_of(samples: Sequence[Sample], *budgets: Budget, **more: Any) -> PreflightForecast:
    spec = rollout(*budgets, **{"metrics": KINDS, **more})
    return forecast_watch(spec, samples, start=START, end=at(60))


def only(samples: Sequence[Sample], line: Budget, **more: Any) -> BudgetForecast:
    (found,) = forecast_of(samples, line, **more).budgets
    return found


def old(values: Iterable[float | None], metric: str = "task_success", n: float | None = 60) -> list[Sample]:
    return arm(BASELINE, values, metric=metric, n=n)


def test_a_release_without_traffic_is_forecast_from_the_baseline_and_the_share_it_will_get() -> None:
    write = HttpWrite(path="/w", body={})
    target = HttpTarget(conn_id="router", read=HttpRead(path="/r"), write=write, ship_share=0.25)
    found = only(old([0.9] * 60), SUCCESS, target=target)
    assert found.method is Method.SEQUENTIAL
    assert (found.baseline.value, found.baseline.per_minute, found.baseline.known) == (
        pytest.approx(0.9),
        60.0,
        60,
    )
    assert found.release.value is None
    assert found.per_arm == 15.0
    spec = rollout(SUCCESS, metrics=KINDS, target=target)
    for forecast in found.forecasts:
        assert forecast.after == expected_detection(
            spec, SUCCESS, per_minute=15, harm=forecast.harm, rate=1.0 - (found.baseline.value or 0.0)
        )
    assert found.warnings == ()


def histogram(bounds: list[float], values: list[float], minute: int) -> list[Sample]:
    return [Sample(at(minute), "p95", BASELINE, c, None, le) for le, c in counted(values, bounds).items()]


def hour_of_latencies(bounds: list[float]) -> list[Sample]:
    random = Random(3)
    return [one for minute in range(1, 61) for one in histogram(bounds, latencies(random, 1.0), minute)]


def test_a_quantile_is_forecast_where_its_histogram_resolves_the_budget() -> None:
    found = only(hour_of_latencies(FINE), RULE)
    assert found.method is Method.SEQUENTIAL
    assert found.baseline.value == pytest.approx(2.28, abs=0.1)
    assert [forecast.after for forecast in found.forecasts] == [30 * MINUTE, 25 * MINUTE]
    assert found.warnings == ()


def test_a_histogram_that_is_too_coarse_or_ends_too_early_is_warned_of() -> None:
    coarse = only(hour_of_latencies(COARSE), RULE)
    assert coarse.method is Method.SIGN
    assert "lies between its bounds 2 and 4, further apart than 15 %" in coarse.warnings[0]
    assert coarse.forecasts[0].words == "not forecast: only values are compared"
    short = only(hour_of_latencies([0.1, 0.5, 1.0]), RULE)
    assert "beyond the largest bound of its histogram (1)" in short.warnings[-1]


@pytest.mark.parametrize(("per_minute", "harm"), [(20, 2.0), (60, 4.0)])
def test_the_forecast_of_a_quantile_meets_the_median_of_simulated_rollouts(
    per_minute: int, harm: float
) -> None:
    found = []
    for seed in range(31):
        random = Random(seed)
        release, baseline = (
            [counted(latencies(random, factor, per_minute), FINE) for _ in range(150)]
            for factor in (1.0 + 0.15 * harm, 1.0)
        )
        n = [float(per_minute)] * 150
        values = ([quantile_in(one, 0.95) for one in each] for each in (release, baseline))
        arms = Arms(next(values), n, next(values), n, list(release), list(baseline))
        times = [datetime_to_us(at(minute)) for minute in range(1, 151)]
        verdict = Fold(SPEC, Window(START, at(150))).fold(Frame(times, times[-1], {"p95": arms}))
        assert verdict is not None
        found.append((verdict.breaches[0].breached_at - START) / MINUTE if verdict.breaches else inf)
    past = counted(latencies(Random(99), 1.0, 100_000), FINE)
    forecast = expected_exceedance_detection(SPEC, RULE, per_minute=per_minute, harm=harm, histogram=past)
    assert forecast is not None
    median = sorted(found)[15]
    assert abs(forecast / MINUTE - median) <= max(0.2 * median, 5)


@pytest.mark.parametrize(
    ("line", "samples", "said"),
    [
        (SUCCESS, [], "no baseline traffic: nothing came of model-v41"),
        (SUCCESS, old([nan] * 60), "every sample of model-v41 is NaN (60)"),
        (SUCCESS, old([0.9] * 20), "known at 20 of 60 looks only"),
        (SUCCESS, old([0.9] * 60, n=None), "the samples carry none: sign is left instead of sequential"),
        (
            SUCCESS.model_copy(update={"min_samples": 100}),
            old([0.9] * 60),
            "60 of 60 looks with fewer events than `min_samples: 100`",
        ),
        (
            budget("cost", method=Method.THRESHOLD),
            old([1.0, 1.5] * 30, "cost", None),
            "% of looks would be bad with no change at all",
        ),
        (
            budget("p95", Comparison.ABOVE, 1.5),
            old([1.6] * 60, "p95"),
            "model-v41 is itself beyond the threshold at 60 of 60 looks",
        ),
    ],
)
def test_what_would_make_a_watch_worth_less_is_warned_of(
    line: Budget, samples: list[Sample], said: str
) -> None:
    assert any(said in warning for warning in only(samples, line).warnings)


RARE = budget("p95", Comparison.DELTA_PCT, 15.0, minutes=20, area="latency", method=Method.AUTO)


def test_where_no_look_has_events_enough_it_is_said_when_the_watch_will_be_blind() -> None:
    few = old([1.6] * 60, "p95", 5)
    (said,) = [one for one in only(few, RARE).warnings if "fewer events" in one]
    assert said.endswith("unknown; at this traffic the watch will be blind after 15 min (`on_blind: review`)")
    slow = {"p95": Metric(kind=MetricKind.QUANTILE, every=timedelta(minutes=10))}
    (said,) = [one for one in only(few, RARE, metrics=slow).warnings if "fewer events" in one]
    assert "blind after 2 h 30 min" in said
    # A look that has enough is known.
    some = [*few[:-1], few[-1]._replace(n=100.0)]
    assert not any("blind after" in one for one in only(some, RARE).warnings)


def test_a_budget_beside_a_known_one_is_blind_at_the_windows_end_and_on_blind_continue_never() -> None:
    few, beside = old([1.6] * 60, "p95", 5), RARE.model_copy(update={"id": "latency.other"})
    said = forecast_of(few, RARE, beside).budgets[0].warnings
    assert any("or at the window's end where another budget of latency is known" in one for one in said)
    goes_on = only(few, RARE, watch=Watch(on_blind=OnBlind.CONTINUE)).warnings
    assert any("the budget will not be judged (`on_blind: continue`)" in one for one in goes_on)


def test_a_counter_that_is_not_there_or_comes_late_is_distinguished_from_no_traffic() -> None:
    both = forecast_of(old([0.9] * 60), SUCCESS, INCIDENTS).budgets
    assert both[0].warnings == ()
    assert "a counter that is not initialised at 0 loses its first event" in both[1].warnings[0]
    late = old([None] * 30 + [0.0] * 30, "incidents")
    born = forecast_of([*old([0.9] * 60), *late], SUCCESS, INCIDENTS).budgets[1]
    assert any("a counter that starts at 1 hides its first event" in warning for warning in born.warnings)
    assert born.forecasts[0].words == "at the first bad look"


def test_a_prometheus_range_of_less_than_two_scrapes_and_a_release_with_all_traffic_are_warned_of() -> None:
    short = PrometheusQuery(value="sum by (version) (rate(ok{$matchers}[1m]))")
    metrics = {**KINDS, "task_success": KINDS["task_success"].model_copy(update={"query": short})}
    source = PrometheusSource(conn_id="prom", scrape_interval=timedelta(seconds=60))
    write = HttpWrite(path="/w", body={})
    target = HttpTarget(conn_id="router", read=HttpRead(path="/r"), write=write, ship_share=1.0)
    found = only(old([0.9] * 60), SUCCESS, metrics=metrics, source=source, target=target)
    assert any("a range of [1m], shorter than two scrapes" in warning for warning in found.warnings)
    assert any("no baseline is left to compare with" in warning for warning in found.warnings)
    assert found.forecasts[0].words == "not forecast: no traffic to go by"


def test_the_table_has_a_line_for_each_budget_and_the_survey_round_trips_as_json() -> None:
    forecast = forecast_of(
        [*old([0.9] * 60), *arm(RELEASE, [0.92] * 60, metric="task_success", n=20)], SUCCESS, INCIDENTS
    )
    heading, columns, _rule, success, incidents = forecast_lines(forecast)
    assert heading.startswith("the last 1 h to 2026-10-01 13:00 UTC")
    assert columns.split("  ")[0] == "budget"
    assert success.split()[:9] == [SUCCESS.id, "90.0", "%", "92.0", "%", "60", "/", "20", "sequential"]
    assert incidents.startswith(INCIDENTS.id)
    assert "nothing yet" in incidents
    assert len(warning_lines(forecast)) == 1
    assert PreflightForecast.model_validate_json(forecast.model_dump_json()) == forecast


def scores(hours: int, release: float = 0.9) -> list[Sample]:
    """A score of the hour of both versions, the last one at the end of the hour that is forecast from."""
    return [
        Sample(at(60 - 60 * hour), "score", version, value, 50.0)
        for hour in range(hours)
        for version, value in ((RELEASE, release), (BASELINE, 0.9))
    ]


def test_a_slow_metric_is_forecast_from_more_than_an_hour_and_its_lag_is_added() -> None:
    line = budget("score", Comparison.DELTA_PP, -20.0, minutes=120, worse=Worse.LOWER, method=Method.AUTO)
    kind = {"kind": MetricKind.PROPORTION, "every": timedelta(hours=1)}
    found = {
        lag: only(scores(14), line, metrics={"score": Metric(**kind, lag=timedelta(hours=lag))})
        for lag in (0, 2)
    }
    assert [found[lag].baseline.known for lag in (0, 2)] == [12, 12]
    assert found[0].warnings == found[2].warnings == ()
    assert found[0].baseline.per_minute == pytest.approx(50 / 60)
    sooner, later = (found[lag].forecasts[0].after for lag in (0, 2))
    assert sooner is not None
    assert later is not None
    assert later - sooner == timedelta(hours=2) - timedelta(seconds=90)


def test_of_a_slow_metric_it_is_said_from_when_its_values_are() -> None:
    line = budget("score", Comparison.DELTA_PP, -20.0, minutes=120, worse=Worse.LOWER, method=Method.AUTO)
    metrics = {**KINDS, "score": Metric(kind=MetricKind.PROPORTION, every=timedelta(hours=1))}
    forecast = forecast_of([*old([0.9] * 60), *scores(14)], SUCCESS, line, metrics=metrics)
    fast, slow = forecast.budgets
    assert (fast.start, fast.looks) == (START, 60)
    assert (slow.start, slow.looks) == (at(60) - timedelta(hours=12), 12)
    assert forecast_lines(forecast)[-1] == f"{line.id}: values from 2026-10-01 01:00 UTC on, 12 looks"
    assert not any("values from" in one for one in forecast_lines(forecast_of(old([0.9] * 60), SUCCESS)))


@pytest.mark.parametrize("lag", [0, 1, 30, 59])
def test_of_a_slow_and_late_metric_it_is_said_when_its_first_look_begins(lag: int) -> None:
    """Whole hours, also where the newest hour that is decided ends between two of them."""
    line = budget("score", Comparison.DELTA_PP, -20.0, minutes=120, worse=Worse.LOWER, method=Method.AUTO)
    score = Metric(kind=MetricKind.PROPORTION, every=timedelta(hours=1), lag=timedelta(minutes=lag))
    forecast = forecast_of([*old([0.9] * 60), *scores(14)], SUCCESS, line, metrics={**KINDS, "score": score})
    begins = "01:00" if lag <= 1 else "00:00"
    assert forecast_lines(forecast)[-1] == f"{line.id}: values from 2026-10-01 {begins} UTC on, 12 looks"
    assert (forecast.budgets[1].looks, forecast.budgets[1].baseline.known) == (12, 12)


@pytest.mark.parametrize("lag", [30, 59, 61, 240])
def test_a_late_metric_of_the_watchs_step_is_forecast_from_a_whole_hour(lag: int) -> None:
    minutes = range(60 - lag - 70, 61 - lag)
    late = [Sample(at(minute), "task_success", BASELINE, 0.9, 60.0) for minute in minutes]
    metrics = {"task_success": Metric(kind=MetricKind.PROPORTION, lag=timedelta(minutes=lag))}
    found = only(late, SUCCESS, metrics=metrics)
    # What was decided in the last minute and a half of settling is not in yet.
    assert (found.looks, found.baseline.known >= 58, found.warnings) == (60, True, ())


def test_a_metric_that_comes_more_rarely_than_it_is_looked_at_is_warned_of_with_its_rhythm() -> None:
    every_ten = [
        Sample(at(minute), "score", version, 0.9, 50.0)
        for minute in range(10, 61, 10)
        for version in (RELEASE, BASELINE)
    ]
    line = budget("score", threshold=20.0)
    [said] = [one for one in only(every_ten, line).warnings if one.startswith("known at")]
    assert said == (
        "known at 6 of 60 looks only: an unknown look burns nothing; a value comes every 10m, write so as"
        " `every`"
    )
