"""Airflow comes back: the tasks of a rollout obey what the ledger says was decided while it was down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.common.xcom import DEADLINE_KEY
from rollback_budget.hooks import traffic_target
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.budget import Comparison, Tier, Worse
from rollback_budget.model.choice import Choice
from rollback_budget.model.decision import Action, Decision, OnTimeout, TierDecision
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.rollback.order import rollback_key
from rollback_budget.targets import apply
from rollback_budget.targets.apply import Outcome
from tests.engine.builders import budget, rollout
from tests.operators.scenarios import COMMANDER, FastClock, SimulatedRollout

pytestmark = [pytest.mark.airflow, pytest.mark.database]

WHY = "a load test, it is over"
MINUTE = timedelta(minutes=1)
Shipped = Callable[[], SimulatedRollout]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedRollout:
    """A rollout under watch: latency is tier B, incidents are tier A."""
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS",
        SimpleNamespace(send=lambda **_message: None),
        raising=False,
    )
    monkeypatch.setattr(apply, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.verify.DeadlineClock", FastClock)
    asks = TierDecision(action=Action.INCIDENT_COMMANDER_DECISION, within=15 * MINUTE)
    incidents = budget(
        "incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", worse=Worse.HIGHER, tier=Tier.A
    )
    target = HttpTarget(
        conn_id="router",
        read=HttpRead(path="/"),
        write=HttpWrite(path="/"),
        deadline=timedelta(seconds=5),
    )
    spec = rollout(budget(), incidents, decision=Decision(tier_b_breach=asks), target=target)
    file = tmp_path / "ledger.db"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", f"sqlite:///{file}")
    sim = SimulatedRollout(spec, file)
    monkeypatch.setattr(traffic_target, "open_target", lambda _spec: sim.plane)
    sim.settle()
    assert sim.waiting("watch") == [1]
    return sim


def answer(sim: SimulatedRollout, choice: Choice, by: str | None = COMMANDER) -> None:
    """What `decide` or standby writes into the ledger."""
    at = utc_now()
    until = at + 5 * MINUTE if choice is Choice.GO_ON else None
    reason = None if by is None else WHY
    sim.ledger.answers.take(
        sim.key, Answer(1, choice.value, by, reason, at, until, (sim.spec.budgets[0].id,))
    )


def see_tier_b(sim: SimulatedRollout) -> None:
    sim.see(sim.breach(Tier.B), "watch", 1)
    sim.settle()


def roll_back(sim: SimulatedRollout, outcome: Outcome | None) -> None:
    """What standby writes of a rollback; ``outcome`` None before it has proven it."""
    now = utc_now()
    sim.ledger.final_decisions.take(sim.key, FinalDecision.ROLLED_BACK, "the rule", "a breach", now)
    sim.plane.shares = {sim.spec.baseline: 1.0}
    sim.ledger.rollbacks.record(sim.key, RollbackRecord(rollback_key(sim.key), outcome, now, None))


def test_a_question_that_was_answered_meanwhile_is_not_asked_again_and_its_override_holds(
    shipped: SimulatedRollout,
) -> None:
    answer(shipped, Choice.GO_ON)
    see_tier_b(shipped)
    assert shipped.waiting("review") == []
    assert shipped.waiting("watch") == [2]
    assert [(one.option, one.by) for one in shipped.decisions] == [(Choice.GO_ON.value, COMMANDER)]
    (override,) = shipped.ledger.overrides.of(shipped.key)
    assert (override.by, override.reason) == (COMMANDER, WHY)


def test_silence_that_standby_followed_is_not_waited_for_again(shipped: SimulatedRollout) -> None:
    answer(shipped, Choice.GO_ON, by=None)
    see_tier_b(shipped)
    assert shipped.waiting("watch") == [2]
    assert [one.timed_out for one in shipped.decisions] == [True]
    assert len(shipped.ledger.overrides.of(shipped.key)) == 1


def test_a_promotion_that_was_decided_meanwhile_is_done_by_airflow(shipped: SimulatedRollout) -> None:
    answer(shipped, Choice.PROMOTE)
    see_tier_b(shipped)
    assert shipped.final is not None
    assert (shipped.final.decision, shipped.final.by) == (FinalDecision.PROMOTED, COMMANDER)
    assert shipped.plane.shares[shipped.spec.release] == 1


@pytest.mark.parametrize("answered", [True, False])
def test_a_rollback_that_standby_has_proven_leads_nowhere(shipped: SimulatedRollout, answered: bool) -> None:
    if answered:
        answer(shipped, Choice.ROLL_BACK)
    roll_back(shipped, Outcome.EFFECTIVE)
    accepted = list(shipped.plane.accepted)
    see_tier_b(shipped)
    assert shipped.has_ended
    assert shipped.plane.accepted == accepted
    assert shipped.states["rollback"] == shipped.states["promote"] == "skipped"


def test_a_rollback_that_nobody_has_proven_yet_is_proven_and_not_sent_again(
    shipped: SimulatedRollout,
) -> None:
    answer(shipped, Choice.ROLL_BACK)
    roll_back(shipped, None)
    accepted = list(shipped.plane.accepted)
    see_tier_b(shipped)
    assert shipped.plane.accepted == accepted
    record = shipped.ledger.rollbacks.of(shipped.key)
    assert record is not None
    assert record.outcome is Outcome.EFFECTIVE


def test_a_review_that_standby_opened_keeps_its_deadline(shipped: SimulatedRollout) -> None:
    deadline = utc_now() + 4 * MINUTE
    shipped.ledger.reviews.open(shipped.key, 1, deadline, OnTimeout.ROLLBACK, utc_now())
    see_tier_b(shipped)
    assert shipped.waiting("review") == [1]
    assert shipped.xcom["round_1.decide", DEADLINE_KEY] == deadline.isoformat()
