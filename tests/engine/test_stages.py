"""Rollouts by stages: nothing is pooled where the traffic is divided anew."""

from __future__ import annotations

from datetime import timedelta
from math import inf

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.comparison import View
from rollback_budget.engine.evaluation import Status, VerdictKind
from rollback_budget.engine.evidence import CountStatistic, ProportionStatistic
from rollback_budget.engine.exceedances import ExceedanceStatistic
from rollback_budget.engine.fold import evaluate
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.increase import IncreaseComparator
from rollback_budget.model.budget import Budget, Comparison, Tier, Worse
from rollback_budget.model.method_plan import blocks_of
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpRead, HttpTarget, Stage
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, rollout

pytestmark = pytest.mark.pure

STAGED = HttpTarget(
    conn_id="router",
    read=HttpRead(path="/"),
    stages=(Stage(traffic=0.05, hold=timedelta(hours=1)),),
    ship_share=0.95,
)
SUCCESS = budget("success", Comparison.DELTA_PP, -2.0, minutes=20, worse=Worse.LOWER, method="sequential")
INCIDENTS = budget("incidents", Comparison.INCREASE, 5.0, minutes=0, tier=Tier.A)
P95 = budget(minutes=20, method="sequential")
#: Two looks: first the baseline has most requests, then the release. Both are as bad as the other in each.
FEW, MANY = 50.0, 950.0


def spec_of(rule: Budget, *, staged: bool) -> RolloutSpec:
    metrics = {"success": Metric(kind=MetricKind.PROPORTION), "p95": Metric(kind=MetricKind.QUANTILE)}
    return rollout(rule, metrics=metrics, target=STAGED if staged else None)


def two_looks(early: float, late: float) -> View:
    """Both arms at ``early``, then both at ``late``, while the traffic moves to the release."""
    arms = Arms([early, late], [FEW, MANY], [early, late], [MANY, FEW])
    return View(arms, [0.0] * 2, [Status.GOOD] * 2)


@pytest.mark.parametrize("staged", [True, False])
def test_a_change_that_both_versions_share_is_no_evidence_when_stages_change(staged: bool) -> None:
    spec = spec_of(SUCCESS, staged=staged)
    statistic = ProportionStatistic(SUCCESS, spec, blocks_of(spec, SUCCESS))
    statistic.add(two_looks(0.9, 0.9), 0, 1, 0)
    statistic.close(0)
    statistic.add(two_looks(0.9, 0.5), 0, 2, 1)
    logs = statistic.close(1)
    assert logs is not None
    mean = statistic.trailing()
    if staged:
        assert max(logs) < 0
        assert mean.release == pytest.approx(mean.baseline)
    else:
        # What the test is about: pooled, the release looks 36 points worse.
        assert max(logs) > 5
        assert mean.release < mean.baseline - 0.3


def test_looks_with_the_same_division_give_the_evidence_of_the_whole_block() -> None:
    arms = Arms([0.86, 0.84, 0.85], [100.0] * 3, [0.9, 0.92, 0.88], [100.0] * 3)
    view = View(arms, [0.0] * 3, [Status.GOOD] * 3)
    found = []
    for staged in (True, False):
        spec = spec_of(SUCCESS, staged=staged)
        statistic = ProportionStatistic(SUCCESS, spec, blocks_of(spec, SUCCESS))
        statistic.add(view, 0, 3, 0)
        found.append(statistic.close(0))
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_events_are_expected_by_the_exposure_of_their_own_stage() -> None:
    rule = INCIDENTS.model_copy(update={"max_duration": timedelta(minutes=20), "threshold": 0.0})
    spec = spec_of(rule, staged=True)
    statistic = CountStatistic(rule, spec, blocks_of(spec, rule))
    # Sums: 2 and 38 events while the baseline has most requests, then 19 and 1.
    arms = Arms([2.0, 21.0], [FEW, FEW + MANY], [38.0, 39.0], [MANY, MANY + FEW])
    statistic.add(View(arms, [0.0] * 2, [Status.GOOD] * 2), 0, 2, 0)
    logs = statistic.close(0)
    assert logs is not None
    assert max(logs) < 0


def histogram(n: float, fast: float) -> dict[float, float]:
    return {1.0: n * fast, 2.0: n * 0.99, inf: n}


def test_quantiles_are_weighed_stage_by_stage() -> None:
    spec = spec_of(P95, staged=True)
    exceedances = ExceedanceStatistic(P95, spec, blocks_of(spec, P95))
    release = [histogram(FEW, 0.97), histogram(FEW, 0.97), histogram(MANY, 0.5)]
    baseline = [histogram(MANY, 0.97), histogram(MANY, 0.97), histogram(FEW, 0.5)]
    arms = Arms([1.0] * 3, [FEW, FEW, MANY], [1.0] * 3, [MANY, MANY, FEW], release, baseline)
    exceedances.add(View(arms, [0.0] * 3, [Status.GOOD] * 3), 0, 3, 0)
    logs = exceedances.close(0)
    mean = exceedances.trailing()
    assert mean.release == pytest.approx(mean.baseline)
    assert logs is None or max(logs) <= 0


def incidents(minutes: int, turn: int) -> list[Sample]:
    """A bad hour for both versions at 5 %, then a good one at 95 %; neither version is worse."""
    samples = []
    for minute in range(1, minutes + 1):
        early = minute <= turn
        release, baseline = (FEW, MANY) if early else (MANY, FEW)
        rate = 0.02 if early else 0.0
        samples += [
            Sample(at(minute), "incidents", RELEASE, rate * release, release),
            Sample(at(minute), "incidents", BASELINE, rate * baseline, baseline),
        ]
    return samples


def test_early_events_of_a_large_baseline_do_not_excuse_a_release_with_all_the_traffic() -> None:
    worse = [*incidents(120, 60), Sample(at(121), "incidents", RELEASE, 20.0, MANY)]
    worse.append(Sample(at(121), "incidents", BASELINE, 0.0, FEW))
    staged = evaluate(spec_of(INCIDENTS, staged=True), worse, start=START, until=at(121))
    assert staged.verdict is VerdictKind.BREACH
    # Scaled in one go, the baseline's first hour would stand for over a thousand events of the release.
    assert evaluate(spec_of(INCIDENTS, staged=False), worse, start=START, until=at(121)).breaches == ()
    fine = evaluate(spec_of(INCIDENTS, staged=True), incidents(120, 60), start=START, until=at(120))
    assert fine.verdict is VerdictKind.HEALTHY


def test_events_scaled_by_look_are_the_same_in_pieces_and_copies() -> None:
    arms = Arms([1.0, 0.0, 2.0], [10.0, 50.0, 90.0], [9.0, 5.0, 1.0], [90.0, 50.0, 10.0])
    whole = IncreaseComparator(INCIDENTS, by_look=True).view(arms, 0, 3)
    pieces = IncreaseComparator(INCIDENTS, by_look=True)
    pieces.advance(pieces.view(arms, 0, 2), 1)
    pieces = pieces.copy()
    assert pieces.view(arms, 1, 3).deltas == pytest.approx(whole.deltas[1:])
    assert whole.deltas[2] == pytest.approx(3.0 - (1.0 + 5.0 + 9.0))
