"""A metric that is more than a day late: its rollout is watched over until its last look was due."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.ledger.watched_by import Who
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.standby.report import standby_report
from tests.engine.builders import BASELINE, RELEASE
from tests.standby.builders import INCIDENTS, MINUTE, StandbyInMemory, shipped_rollout
from tests.support.rollouts import KEY, make_spec

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)
#: Found by people who read conversations, and never sooner than in a day and a quarter.
REVIEWED = Metric(every=10 * MINUTE, lag=30 * HOUR)


def reviewed_rollout(ledger: Ledger, over_for: timedelta, metric: Metric = REVIEWED) -> RolloutSpec:
    """A rollout of an hour, whose window is over for so long."""
    return shipped_rollout(ledger, ago=over_for + HOUR, window=HOUR, metrics={"incidents": metric})


def expected(ledger: Ledger) -> list[RolloutKey]:
    return [one.key for one in ledger.signs_of_life.expected()]


@pytest.mark.parametrize("hours", [23, 25, 29.9, 30.1, 53])
def test_a_rollout_whose_metric_is_thirty_hours_late_is_expected_until_a_day_after_its_last_look(
    ledger: Ledger, hours: float
) -> None:
    reviewed_rollout(ledger, hours * HOUR)
    assert expected(ledger) == [KEY]
    ledger.final_decisions.take(KEY, FinalDecision.PROMOTED, "the rule", "healthy", utc_now())
    assert expected(ledger) == []


@pytest.mark.parametrize(
    ("metric", "hours"),
    [
        (REVIEWED, 54.1),
        (REVIEWED.model_copy(update={"lag": 2 * HOUR}), 26.1),
        # It waits for nothing: what is left out lies at the beginning.
        (REVIEWED.model_copy(update={"bucket_by": BucketBy.ARRIVAL}), 24.1),
    ],
)
def test_a_rollout_whose_last_look_was_due_more_than_a_day_ago_is_nobodys_any_more(
    ledger: Ledger, metric: Metric, hours: float
) -> None:
    reviewed_rollout(ledger, hours * HOUR, metric)
    assert expected(ledger) == []


def test_only_the_rollout_that_waits_for_a_late_metric_is_expected_for_longer(ledger: Ledger) -> None:
    reviewed_rollout(ledger, 28 * HOUR)
    other, at = RolloutKey("rollout_model_v43", "1"), utc_now() - 29 * HOUR
    ledger.rollouts.open(other, make_spec(), at)
    ledger.rollouts.record_shipped(other, at, at + HOUR)
    assert expected(ledger) == [KEY]


async def test_a_breach_that_is_known_a_day_and_a_quarter_later_is_rolled_back_by_a_standby(
    ledger: Ledger,
) -> None:
    reviewed_rollout(ledger, 30.5 * HOUR)
    standby = StandbyInMemory(ledger)
    standby.metrics.incidents_from = utc_now() - 31 * HOUR
    report = standby_report(ledger)
    assert [who.who for _, who in report.rollouts] == [Who.NOBODY]
    assert await standby.run_once()
    assert [one.breach.budget for one in ledger.breaches.of(KEY)] == [INCIDENTS.id]
    assert standby.router.shares == {RELEASE: 0.0, BASELINE: 1.0}
    assert standby.events() == ["watch_lost", "breach", "rolled_back"]


async def test_a_standby_keeps_a_lost_rollout_while_its_late_metric_is_still_to_come(ledger: Ledger) -> None:
    reviewed_rollout(ledger, 25 * HOUR)
    standby = StandbyInMemory(ledger)
    standby.metrics.incidents_from = utc_now() - 25.5 * HOUR
    assert await standby.run_once()
    # Its looks of the window's end are decided in five hours: there is no verdict, and it stays in view.
    assert ledger.evaluations.of(KEY) == []
    assert standby.router.shares[RELEASE] > 0
    assert expected(ledger) == [KEY]
