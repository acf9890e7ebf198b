"""Which method decides, what it says about itself, and what a breach by evidence looks like."""

from __future__ import annotations

import re
import warnings
from datetime import timedelta
from typing import Any

import pytest

from rollback_budget.engine import Restart, Sample, VerdictKind, evaluate
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.watch_settings import Analysis
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, both, budget, rollout
from tests.engine.test_evidence_over_time import METRICS, SUCCESS, recorded

pytestmark = pytest.mark.pure

STATIC = Analysis(baseline="static")


def auto(*args: Any, **more: Any) -> Budget:
    return budget(*args, **{"method": Method.AUTO, **more})


RATE = {"p95": Metric(kind=MetricKind.PROPORTION)}

CHOICES: list[tuple[Budget, dict[str, Any], float | None, Method, str]] = [
    (auto(), {"metrics": RATE}, 50.0, Method.SEQUENTIAL, "auto: events among requests are counted: anytime"),
    (auto(), {"metrics": RATE}, None, Method.SIGN, "but the samples carry none: anytime-valid at alpha 0.05"),
    (auto(comparison=Comparison.DELTA_PP), {}, 50.0, Method.SEQUENTIAL, "are counted"),
    (auto(), {}, 50.0, Method.SIGN, "p95 is not described as a proportion, so only values are known"),
    (auto(comparison=Comparison.DELTA, threshold=0.0), {}, 50.0, Method.SIGN, "a threshold of 0"),
    (auto(comparison=Comparison.ABOVE), {}, 50.0, Method.THRESHOLD, "needs a baseline"),
    (
        auto(minutes=0),
        {"metrics": RATE},
        50.0,
        Method.THRESHOLD,
        "the first bad look: no error-rate guarantee",
    ),
    (auto(), {"metrics": RATE, "analysis": STATIC}, 50.0, Method.THRESHOLD, "`analysis.baseline` is static"),
    (auto(accounting=Accounting.CUMULATIVE), {"metrics": RATE}, 50.0, Method.THRESHOLD, "cumulative"),
    (auto(), {"minutes": 31}, None, Method.THRESHOLD, "the window is too short for the sign test"),
    (auto(comparison=Comparison.INCREASE, threshold=0.0), {}, 50.0, Method.SEQUENTIAL, "exposure are known"),
    (auto(comparison=Comparison.INCREASE, threshold=0.0), {}, None, Method.THRESHOLD, "carry none: no error"),
    (
        auto(comparison=Comparison.INCREASE, threshold=0.0, minutes=0),
        {},
        None,
        Method.THRESHOLD,
        "not estimated",
    ),
    (budget(method=Method.SEQUENTIAL), {}, 50.0, Method.SEQUENTIAL, "the budget asks for sequential"),
    (budget(method=Method.SIGN), {"metrics": RATE}, 50.0, Method.SIGN, "the budget asks for sign: anytime"),
    (budget(), {"metrics": RATE}, 50.0, Method.THRESHOLD, "the budget asks for threshold: no error-rate"),
]


@pytest.mark.parametrize(("rule", "around", "n", "method", "reason"), CHOICES)
def test_a_verdict_says_which_method_decided_and_why(
    rule: Budget, around: dict[str, Any], n: float | None, method: Method, reason: str
) -> None:
    samples = both([None, 0.5, 0.5], baseline=0.5, n=n)
    snapshot = evaluate(rollout(rule, **around), samples, start=START).budgets[0]
    assert snapshot.method is method
    assert reason in snapshot.method_reason
    assert (snapshot.p_value is None) == (method is Method.THRESHOLD)


@pytest.mark.parametrize(
    ("rule", "around", "why"),
    [
        (budget(method=Method.SEQUENTIAL, comparison=Comparison.ABOVE), {}, "needs a baseline"),
        (budget(method=Method.SIGN, minutes=0), {}, "needs a duration"),
        (budget(method=Method.SIGN), {"analysis": STATIC}, "needs a concurrent baseline"),
        (budget(method=Method.SEQUENTIAL, comparison=Comparison.DELTA), {}, "is for proportions"),
        (budget(method=Method.SEQUENTIAL, threshold=0.0), {}, "a threshold other than 0"),
        (auto(), {"analysis": Analysis(design_effect="auto")}, "rollback-budget design-effect"),
    ],
)
def test_a_method_that_cannot_decide_a_budget_is_refused_and_not_replaced(
    rule: Budget, around: dict[str, Any], why: str
) -> None:
    with pytest.raises(RollbackBudgetError, match=f"{rule.id}.*{why}"):
        evaluate(rollout(rule, **around), [], start=START)


def test_alpha_is_divided_among_the_budgets_that_are_tested() -> None:
    spec = rollout(auto(), auto("p50"), budget("p99"), auto("cost", Comparison.ABOVE, 1.0))
    reasons = [snapshot.method_reason for snapshot in evaluate(spec, [], start=START).budgets]
    assert [reason.endswith("at alpha 0.025") for reason in reasons] == [True, True, False, False]


def test_a_breach_by_evidence_says_how_much_over_which_time_and_how_sure_it_is() -> None:
    spec = rollout(SUCCESS, metrics=METRICS, minutes=300)
    samples = [s for s in recorded(300, harm_from=101, holes=0) if s.series == "task_success"]
    (breach,) = evaluate(spec, samples, start=START).breaches
    assert breach.method is Method.SEQUENTIAL
    assert at(90) <= breach.started_at <= at(100)
    assert at(120) <= breach.breached_at <= at(130)
    assert breach.p_value is not None
    assert breach.p_value <= 0.05
    assert breach.delta == breach.over_burn.delta == pytest.approx(-15, abs=3)
    assert [look.time for look in breach.samples] == [
        breach.breached_at - k * MINUTE for k in range(19, -1, -1)
    ]
    assert breach.over_burn.release_n == 20 * 60
    start, end = breach.sentence.split("; ")
    assert start.startswith("quality: task_success was 1")
    assert start.endswith("n = 1 200 and 1 200) over 20 min, budget -2 pp for 20 min")
    assert re.fullmatch(r"p (= 0\.0\d+|< 0\.0001) \(anytime-valid\), evidence since 13:3\d UTC", end)


def test_harm_for_less_than_the_duration_is_no_breach_however_strong() -> None:
    spec = rollout(SUCCESS, metrics=METRICS, minutes=300)
    values = [0.9] * 100 + [0.0] * 14 + [0.9] * 186
    samples = both(values, baseline=0.9, metric="task_success", n=1000.0)
    assert evaluate(spec, samples, start=START).verdict is VerdictKind.HEALTHY


def test_an_override_starts_the_evidence_anew() -> None:
    spec = rollout(SUCCESS, metrics=METRICS, minutes=300)
    samples = both([0.6] * 300, baseline=0.9, metric="task_success", n=1000.0)
    first = evaluate(spec, samples, start=START).breaches[0]
    assert (first.started_at, first.breached_at) == (START, at(20))
    on = evaluate(spec, samples, start=START, restarts=[Restart(SUCCESS.id, at(22))]).breaches[0]
    assert on.started_at >= at(22)
    assert at(42) <= on.breached_at <= at(45)


def test_values_alone_are_decided_by_their_sign() -> None:
    rule = auto(minutes=16)
    noisy = [1.3, 1.5, 1.2, 1.6] * 75
    (breach,) = evaluate(rollout(rule), both(noisy, baseline=1.0), start=START).breaches
    assert (breach.method, breach.over_burn.release_value) == (Method.SIGN, pytest.approx(1.4))
    assert breach.breached_at <= at(20)
    within = [1.02, 1.10, 1.0, 1.12] * 75
    assert evaluate(rollout(rule), both(within, baseline=1.0), start=START).verdict is VerdictKind.HEALTHY


def test_events_with_exposure_breach_when_the_rate_has_risen_and_more_than_tolerated_came() -> None:
    rule = auto("crashes", Comparison.INCREASE, 3.0, minutes=10, area="safety", min_samples=0)
    risen = arm(RELEASE, [1, 0] * 60, metric="crashes", n=100.0) + arm(
        BASELINE, [0] * 120, metric="crashes", n=300.0
    )
    (breach,) = evaluate(rollout(rule), risen, start=START).breaches
    assert breach.method is Method.SEQUENTIAL
    assert breach.delta > 3
    assert "more crashes than model-v41" in breach.sentence
    # Three times the traffic explains three times the events.
    explained = arm(RELEASE, [3, 0] * 60, metric="crashes", n=300.0) + arm(
        BASELINE, [1, 0] * 60, metric="crashes", n=100.0
    )
    assert evaluate(rollout(rule), explained, start=START).verdict is VerdictKind.HEALTHY


@pytest.mark.parametrize("release", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize("baseline", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [0.0, 1.0, 2.4, 1e9])
@pytest.mark.parametrize("comparison", [Comparison.DELTA_PCT, Comparison.DELTA_PP])
@pytest.mark.parametrize("threshold", [-50.0, -1e-6, 1e-6, 150.0])
def test_degenerate_series_are_decided_without_a_warning(
    release: float | None, baseline: float, n: float, comparison: Comparison, threshold: float
) -> None:
    rule = auto(
        comparison=comparison, threshold=threshold, worse=Worse.LOWER if threshold < 0 else Worse.HIGHER
    )
    spec = rollout(rule, metrics=RATE, minutes=120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(spec, both([release] * 60, baseline=baseline, n=n), start=START, until=at(60))
    p_value = evaluation.budgets[0].p_value
    assert p_value is not None
    assert 0.0 <= p_value <= 1.0
    if release == baseline or n < 1 or release is None:
        assert not evaluation.breaches


def test_values_that_are_no_rates_are_left_out_of_the_evidence() -> None:
    spec = rollout(SUCCESS, metrics=METRICS, minutes=120)
    odd = [Sample(at(k), "task_success", v, 7.0, 50.0) for k in range(1, 121) for v in (RELEASE, BASELINE)]
    snapshot = evaluate(spec, odd, start=START).budgets[0]
    assert (snapshot.method, snapshot.p_value) == (Method.SEQUENTIAL, 1.0)


def test_a_longer_block_decides_later() -> None:
    samples = both([0.6] * 300, baseline=0.9, metric="task_success", n=1000.0)
    spec = rollout(SUCCESS, metrics=METRICS, minutes=300, analysis=Analysis(block=timedelta(hours=1)))
    assert evaluate(spec, samples, start=START).breaches[0].breached_at == at(60)
