"""What makes the comparison itself doubtful is said with the verdict, and decides nothing."""

from __future__ import annotations

from random import Random

import pytest

from rollback_budget.engine import Sample, VerdictKind, evaluate
from rollback_budget.engine.doubts import ALPHA, is_mismatch
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite, Stage
from rollback_budget.model.watch_settings import Analysis
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, budget, rollout

pytestmark = pytest.mark.pure

TARGET = HttpTarget(conn_id="r", read=HttpRead(path="/"), write=HttpWrite(path="/"), ship_share=0.5)
MINUTES = 60


def spec_of(target: HttpTarget = TARGET, **more: object) -> RolloutSpec:
    metrics = {"p95": Metric(kind=MetricKind.QUANTILE, unit="s")}
    return rollout(budget(), metrics=metrics, target=target, minutes=MINUTES, **more)


def traffic(release: float, baseline: float) -> list[Sample]:
    values = [2.0 + 0.01 * (minute % 7) for minute in range(MINUTES)]
    others = [2.0 + 0.01 * (minute % 5) for minute in range(MINUTES)]
    return arm(RELEASE, values, n=release) + arm(BASELINE, others, n=baseline)


@pytest.mark.parametrize(("release", "baseline"), [(20, 1980), (400, 600), (600, 400)])
def test_a_release_that_gets_other_traffic_than_declared_is_doubtful(release: int, baseline: int) -> None:
    found = evaluate(spec_of(), traffic(release, baseline), start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert "the comparison is doubtful" in found.sentence
    assert f"({60 * release} of {60 * (release + baseline)}), and 0.5 was declared" in found.sentence


@pytest.mark.parametrize(("release", "baseline"), [(500, 500), (480, 520), (23, 27)])
def test_what_sessions_and_chance_move_is_not_doubted(release: int, baseline: int) -> None:
    assert evaluate(spec_of(), traffic(release, baseline), start=START).doubts == ()


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(TARGET.model_copy(update={"write": None})),
        spec_of(TARGET.model_copy(update={"stages": (Stage(traffic=0.1, hold=10 * MINUTE),)})),
        spec_of(analysis=Analysis(baseline="static")),
    ],
    ids=["somebody else divides the traffic", "stages", "no concurrent baseline"],
)
def test_what_is_not_declared_is_not_held_against_it(spec: RolloutSpec) -> None:
    assert evaluate(spec, traffic(20, 1980), start=START).doubts == ()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_traffic_that_is_divided_as_declared_is_hardly_ever_doubted(share: float) -> None:
    doubted = 0
    for seed in range(200):
        random, release, baseline = Random(seed), 0, 0
        for _ in range(200):
            own = sum(random.random() < share for _ in range(10))
            release, baseline = release + own, baseline + 10 - own
            if is_mismatch(release, baseline, share):
                doubted += 1
                break
    assert doubted <= 200 * ALPHA + 1


def test_a_breach_says_that_the_comparison_is_doubtful() -> None:
    spec = spec_of()
    slow = arm(RELEASE, [3.0] * MINUTES, n=20) + arm(BASELINE, [2.0] * MINUTES, n=1980)
    found = evaluate(spec, slow, start=START)
    assert found.verdict is VerdictKind.BREACH
    assert found.finding == found.breaches[0].sentence
    assert found.sentence == f"{found.finding}; {found.doubts[0]}"


def test_two_versions_that_are_one_series_are_doubtful() -> None:
    values = [2.0 + 0.01 * (minute % 7) for minute in range(MINUTES)]
    same = arm(RELEASE, values, n=100) + arm(BASELINE, values, n=100)
    found = evaluate(spec_of(), same, start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert "p95 of model-v42 and of model-v41 are equal to the last digit" in found.sentence
