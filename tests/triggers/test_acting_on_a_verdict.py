"""What leaves from the trigger that knows the verdict, before any task runs."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as ThreadEvent
from typing import Any

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import TargetError
from rollback_budget.hooks import traffic_target
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.budget import Tier
from rollback_budget.model.decision import Action, Decision, OnTimeout, TierDecision
from rollback_budget.model.notify import Event, Notify
from rollback_budget.model.source import RecordedSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpTarget
from rollback_budget.rollback.request import RequestOutcome, RollbackRequest
from rollback_budget.targets import apply as change
from rollback_budget.targets.base import Serving
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.triggers.on_verdict import request_rollback
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import Role, WatchPlan
from tests.engine.builders import budget, rollout
from tests.operators.scenarios import FastClock
from tests.support.control_plane import TARGET, ControlPlane
from tests.support.rollouts import KEY

pytestmark = [pytest.mark.airflow, pytest.mark.database]

LOG = logging.getLogger(__name__)
LONG_AGO = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
SHIPPED = {"model-v42": 0.1, "model-v41": 0.9}
ROLLED_BACK = {"model-v42": 0.0, "model-v41": 1.0}
ASKS = TierDecision(action=Action.INCIDENT_COMMANDER_DECISION, within=timedelta(minutes=15))


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    plane = ControlPlane(dict(SHIPPED))
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())
    monkeypatch.setattr(traffic_target, "open_target_in_time", lambda _spec, _most: nullcontext(plane))
    monkeypatch.setattr("rollback_budget.triggers.rollback_budget.process_look_writer", lambda: None)
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER", "http://127.0.0.1:1")
    return plane


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


def breaching(folder: Path, tier: Tier, *, ours: bool = True, **more: Any) -> WatchPlan:
    """A rollout whose p95 is a third too high from its 20th minute on."""
    lines = ["time,metric,version,value,n"]
    for minute in range(1, 91):
        time = (LONG_AGO + timedelta(minutes=minute)).isoformat()
        lines.append(f"{time},p95,model-v42,{2.1 if minute >= 20 else 1.6},200")
        lines.append(f"{time},p95,model-v41,1.6,200")
    (folder / "series.csv").write_text("\n".join(lines))
    spec = rollout(
        budget(tier=tier),
        minutes=90,
        source=RecordedSource(path=str(folder / "series.csv")),
        target=TARGET,
        decision=Decision(tier_b_breach=ASKS),
        **more,
    )
    return WatchPlan(
        spec=spec,
        window_start=LONG_AGO,
        window_end=LONG_AGO + spec.window,
        rollout=KEY,
        terms=rollback_terms(spec, SHIPPED) if ours else None,
    )


def event_of(plan: WatchPlan) -> dict[str, Any]:
    async def run() -> list[Any]:
        trigger = RollbackBudgetTrigger(plan=plan.model_dump_json(), deferred_at=LONG_AGO.isoformat())
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(run())
    assert isinstance(payload, dict)
    return json.loads(json.dumps(payload))  # type: ignore[no-any-return]


def test_a_tier_a_breach_is_rolled_back_before_its_event(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.A)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event = event_of(plan)
    assert plane.shares == ROLLED_BACK
    request = RollbackRequest.model_validate(event["rollback"])
    assert request.outcome is RequestOutcome.ACCEPTED
    final = ledger.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "the rule")
    assert final.reason == Evaluation.model_validate(event["evaluation"]).sentence


def test_what_is_logged_while_it_is_requested_belongs_to_the_log_of_the_watch(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    task: ContextVar[str] = ContextVar("task", default="none")
    seen = []
    plane.before_write = lambda _key: seen.append(task.get())
    plan = breaching(tmp_path, Tier.A)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    token = task.set("the watch")
    try:
        event_of(plan)
    finally:
        task.reset(token)
    assert seen == ["the watch"]


def test_without_the_ledger_it_is_rolled_back_all_the_same(
    tmp_path: Path, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'none.db'}")
    event = event_of(breaching(tmp_path, Tier.A))
    assert plane.shares == ROLLED_BACK
    assert event["rollback"]["outcome"] == "accepted"


def test_where_a_team_puts_the_baseline_back_nothing_is_sent(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.A, ours=False)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    assert event_of(plan)["rollback"] is None
    assert plane.shares == SHIPPED
    assert ledger.final_decisions.of(KEY) is None


def test_a_guards_breach_is_rolled_back_at_once(tmp_path: Path, plane: ControlPlane, ledger: Ledger) -> None:
    plan = breaching(tmp_path, Tier.A).model_copy(
        update={"role": Role.GUARD, "until": LONG_AGO + timedelta(hours=2)}
    )
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event_of(plan)
    assert plane.shares == ROLLED_BACK
    [logged] = ledger.evaluations.of(KEY)
    assert logged.kind == "guard"


def test_a_guard_that_saw_nothing_to_the_windows_end_asks_for_nothing(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.B).model_copy(
        update={"role": Role.GUARD, "until": LONG_AGO + timedelta(hours=2)}
    )
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    assert event_of(plan)["rollback"] is None
    assert plane.shares == SHIPPED
    assert ledger.final_decisions.of(KEY) is None


def test_a_window_that_ends_well_asks_for_nothing(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.C)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event = event_of(plan)
    assert (event["rollback"], event["deadline"]) == (None, None)
    assert plane.shares == SHIPPED


def test_a_tier_b_breach_sets_the_deadline_and_keeps_the_evidence(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.B)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event = event_of(plan)
    assert plane.shares == SHIPPED
    [review] = ledger.reviews.of(KEY)
    assert event["deadline"] == review.deadline.isoformat()
    assert review.on_timeout is OnTimeout.ROLLBACK
    assert review.deadline - review.opened_at == timedelta(minutes=15)
    assert len(ledger.breaches.of(KEY)) == 1


def test_a_watch_that_starts_again_keeps_the_first_deadline(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.B)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    assert event_of(plan)["deadline"] == event_of(plan)["deadline"]
    assert plane.shares == SHIPPED


def test_a_watch_that_starts_again_after_its_rollback_sends_nothing_more(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger
) -> None:
    plan = breaching(tmp_path, Tier.A)
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    first, second = event_of(plan), event_of(plan)
    assert len(plane.accepted) == 1
    assert first["evaluation"] == second["evaluation"]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    messages: list[Any] = []

    def deliver(_notify: Notify, message: Any, _context: Any) -> None:
        messages.append(message)

    monkeypatch.setattr("rollback_budget.notifications.dispatch._deliver", deliver)
    return messages


def test_the_first_messages_go_out_from_the_trigger(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger, inbox: list[Any]
) -> None:
    notify = Notify(notifier="http", conn_id="inbox")
    plan = breaching(tmp_path, Tier.B, notify=(notify,))
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event = event_of(plan)
    assert [message.event for message in inbox] == [Event.BREACH, Event.REVIEW_OPENED]
    assert inbox[1].deadline == datetime.fromisoformat(event["deadline"])
    assert inbox[1].deadline > utc_now()
    assert "rolls back" in inbox[1].sentence
    assert plane.shares == SHIPPED


def test_the_message_of_a_breach_says_that_the_rollback_is_requested(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger, inbox: list[Any]
) -> None:
    plan = breaching(tmp_path, Tier.A, notify=(Notify(notifier="http", conn_id="inbox"),))
    ledger.rollouts.open(KEY, plan.spec, LONG_AGO)
    event_of(plan)
    [message] = inbox
    assert "The rollback is requested at once" in message.sentence
    assert plane.shares == ROLLED_BACK


def test_a_target_that_does_not_answer_leaves_room_for_the_rollbacks_to_others(
    tmp_path: Path, plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_is_over = ThreadEvent()

    class Dead(ControlPlane):
        def read(self) -> Serving:
            test_is_over.wait()
            raise TargetError("no answer")

    dead = Dead(dict(SHIPPED))

    def open_target(spec: RolloutSpec, _most: timedelta) -> AbstractContextManager[ControlPlane]:
        assert isinstance(spec.target, HttpTarget)
        return nullcontext(dead if spec.target.conn_id == "dead" else plane)

    monkeypatch.setattr(traffic_target, "open_target_in_time", open_target)
    healthy = breaching(tmp_path, Tier.A)
    ledger.rollouts.open(KEY, healthy.spec, LONG_AGO)
    gone = healthy.model_copy(
        update={
            "spec": healthy.spec.model_copy(update={"target": TARGET.model_copy(update={"conn_id": "dead"})})
        }
    )
    assert healthy.order is not None
    assert gone.order is not None

    async def run() -> RollbackRequest:
        waiting = [
            asyncio.ensure_future(request_rollback(gone.order, "the rule", "gone", LOG)) for _ in range(100)
        ]
        await asyncio.sleep(0)
        try:
            return await request_rollback(healthy.order, "the rule", "one incident", LOG)
        finally:
            test_is_over.set()
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    assert asyncio.run(run()).outcome is RequestOutcome.ACCEPTED
    assert plane.shares == ROLLED_BACK
