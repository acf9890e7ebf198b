"""What a person on call reads."""

from __future__ import annotations

import pytest

from rollback_budget.engine import evaluate
from rollback_budget.model.budget import Budget, Comparison, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, RELEASE, START, arm, budget, rollout

pytestmark = pytest.mark.pure

METRICS = {
    "p95": Metric(kind=MetricKind.QUANTILE, unit="s"),
    "task_success": Metric(kind=MetricKind.PROPORTION),
    "cost": Metric(kind=MetricKind.MEAN, unit="USD"),
}
PP = budget(
    "task_success", Comparison.DELTA_PP, -2.0, minutes=0, area="quality", worse=Worse.LOWER, slice="de"
)
SAFETY = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", tier=Tier.A)

CASES: list[tuple[Budget, float, float, float | None, str]] = [
    (
        budget(minutes=2),
        2.1,
        1.6,
        1937.4,
        "latency: p95 was 31 % above model-v41 (2.10 s against 1.60 s, n = 5 812 and 5 812) for 2 min, "
        "budget +15 % for 2 min",
    ),
    (
        budget(minutes=0),
        1.15004,
        1.0,
        None,
        "latency: p95 was 15.004 % above model-v41 (1.15 s against 1.00 s), budget +15 %",
    ),
    (
        PP,
        0.87,
        0.912,
        100.0,
        "quality: task_success of de was 4.2 pp below model-v41 (87.0 % against 91.2 %, n = 100 and 100), "
        "budget -2 pp",
    ),
    (
        budget("cost", Comparison.DELTA, 0.02, minutes=1, area="money"),
        0.05,
        0.02,
        None,
        "money: cost was 0.030 USD above model-v41 (0.0500 USD against 0.0200 USD) for 1 min, "
        "budget +0.02 USD for 1 min",
    ),
    (
        budget(comparison=Comparison.ABOVE, threshold=8.0, minutes=0),
        9.1,
        1.0,
        40.0,
        "latency: p95 was 9.10 s (n = 40), budget at most 8.00 s",
    ),
    (
        budget("task_success", Comparison.BELOW, 0.9, minutes=0, area="quality", worse=Worse.LOWER),
        0.85,
        1.0,
        None,
        "quality: task_success was 85.0 %, budget at least 90.0 %",
    ),
    (
        SAFETY,
        1.0,
        0.0,
        50.0,
        "safety: 1 more incident than model-v41 (1 against 0, n = 50 and 50), budget: 0 more",
    ),
]


@pytest.mark.parametrize(("rule", "release", "baseline", "n", "sentence"), CASES)
def test_a_breach_says_what_happened_and_what_the_budget_is(
    rule: Budget, release: float, baseline: float, n: float | None, sentence: str
) -> None:
    looks = int(rule.max_duration.total_seconds() // 60) + 1
    samples = arm(RELEASE, [release] * looks, metric=rule.series, n=n)
    samples += arm(BASELINE, [baseline] * looks, metric=rule.series, n=n)
    evaluation = evaluate(rollout(rule, metrics=METRICS), samples, start=START)
    assert evaluation.sentence == sentence
