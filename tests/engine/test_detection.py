"""Forecasts of how long harm takes to be found, held against the simulated medians of the design."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.engine.detection import describe_detection, expected_detection, slow_budgets
from rollback_budget.model.budget import Comparison, Method, Worse
from rollback_budget.model.watch_settings import Analysis
from tests.engine.builders import MINUTE, budget, rollout

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


@pytest.mark.parametrize(
    ("per_minute", "harm", "median"),
    [(5, 2, 410), (30, 2, 95), (200, 2, 30), (5, 5, 80), (30, 5, 30), (200, 5, 20)],
)
def test_a_forecast_meets_the_simulated_median_within_a_fifth_or_one_block(
    per_minute: float, harm: float, median: float
) -> None:
    forecast = expected_detection(rollout(SUCCESS), SUCCESS, per_minute=per_minute, harm=harm)
    assert forecast is not None
    assert abs(forecast / MINUTE - median) <= max(0.2 * median, 5)


def test_clustered_requests_and_less_traffic_take_longer_and_harmless_changes_are_never_found() -> None:
    clustered = rollout(SUCCESS, analysis=Analysis(design_effect=3.0))
    times = [expected_detection(rollout(SUCCESS), SUCCESS, per_minute=n, harm=2) for n in (200, 30, 5)]
    assert times == sorted(times, key=lambda time: time or timedelta.max)
    slower = expected_detection(clustered, SUCCESS, per_minute=30, harm=2)
    assert slower is not None
    assert times[1] is not None
    assert slower > 2 * times[1]
    assert expected_detection(rollout(SUCCESS), SUCCESS, per_minute=30, harm=0.5) is None


def test_a_forecast_is_said_in_the_units_of_the_budget() -> None:
    said = describe_detection(rollout(SUCCESS), SUCCESS, 30)
    assert said == (
        "quality.task_success_delta_pp: at 30 requests/min/arm and 10 % bad ones in the baseline, "
        "a 4-point drop is found in about 1 h 40 min, a 10-point drop is found in about 30 min"
    )
    assert describe_detection(rollout(), budget(), 30) is None


def test_a_fast_line_is_recommended_where_the_main_line_is_slow_and_has_none() -> None:
    (advice,) = slow_budgets(rollout(SUCCESS), 30)
    assert "add a fast line to quality, such as `task_success_delta_pp: -20` for 3 min" in advice
    fast = SUCCESS.model_copy(update={"id": "fast", "threshold": -20.0, "max_duration": 3 * MINUTE})
    assert slow_budgets(rollout(SUCCESS, fast), 30) == []
    assert slow_budgets(rollout(SUCCESS), 500) == []
