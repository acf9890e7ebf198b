"""The trigger beside an open question: it follows silence and answers itself, whatever Airflow does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import Choice
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.hooks import traffic_target
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.decision import OnTimeout
from rollback_budget.rollback.order import RollbackOrder, rollback_key
from rollback_budget.targets import apply as change
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.triggers import review as module
from rollback_budget.triggers.review import ReviewTrigger
from tests.operators.scenarios import FastClock
from tests.support.control_plane import TARGET, ControlPlane
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

SPEC = make_spec(target=TARGET)
SHIPPED = {SPEC.release: 0.1, SPEC.baseline: 0.9}
ROLLED_BACK = {SPEC.release: 0.0, SPEC.baseline: 1.0}
SENTENCE = "latency: p95 was 31 % above model-v41"
LONG_AGO = "2026-03-01T12:00:00+00:00"


class Airflow:
    """What Airflow holds of the question, and whether it can say."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None
        self.written: list[str] = []
        self.refuses = False
        self.hangs: Event | None = None

    async def read(self, _ti_id: str, _log: Any) -> dict[str, Any] | None:
        if self.hangs is not None:
            await asyncio.to_thread(self.hangs.wait)
        return self.answer

    def write(self, _ti_id: UUID, option: str, _given: dict[str, Any]) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        if self.refuses:
            raise RuntimeError("409")
        self.written.append(option)

    def is_answered(self, choice: Choice, by: str = "casey", **given: Any) -> None:
        self.answer = {
            "chosen_options": [choice.value],
            "params_input": given,
            "responded_at": utc_now().isoformat(),
            "responded_by_user": {"id": by, "name": by},
        }


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow = Airflow()
    monkeypatch.setattr(module, "read_answer", airflow.read)
    monkeypatch.setattr(module, "_write_answer", airflow.write)
    monkeypatch.setattr(module, "POLL", timedelta(milliseconds=5))
    return airflow


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    plane = ControlPlane(dict(SHIPPED))
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())
    monkeypatch.setattr(traffic_target, "open_target_in_time", lambda _spec, _most: nullcontext(plane))
    return plane


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    ledger.rollouts.open(KEY, SPEC, NOON)
    return ledger


def trigger(
    *,
    seconds_left: float = 0.0,
    default: Choice = Choice.ROLL_BACK,
    ours: bool = True,
    window_left: timedelta = timedelta(hours=20),
) -> ReviewTrigger:
    terms = rollback_terms(SPEC, SHIPPED)
    assert terms is not None
    order = RollbackOrder(rollout=KEY, spec=SPEC, terms=terms).model_dump_json() if ours else None
    return ReviewTrigger(
        ti_id=str(UUID(int=1)),
        deadline=(utc_now() + timedelta(seconds=seconds_left)).isoformat(),
        default=default.value,
        dag_id=KEY.dag_id,
        run_id=KEY.run_id,
        deferred_at=LONG_AGO,
        order=order,
        reason=SENTENCE,
        round_=1,
        budgets=["latency.p95_delta_pct"],
        window_end=(utc_now() + window_left).isoformat(),
    )


def event_of(waiting: ReviewTrigger) -> dict[str, Any]:
    async def run() -> list[Any]:
        return [event.payload async for event in waiting.run()]

    [payload] = asyncio.run(run())
    assert isinstance(payload, dict)
    return payload


def author(ledger: Ledger) -> tuple[FinalDecision, str, str] | None:
    final = ledger.final_decisions.of(KEY)
    return None if final is None else (final.decision, final.by, final.reason)


def test_silence_rolls_back_from_the_trigger(airflow: Airflow, plane: ControlPlane, ledger: Ledger) -> None:
    event = event_of(trigger())
    assert plane.shares == ROLLED_BACK
    assert event["rollback"]["outcome"] == "accepted"
    assert airflow.written == [Choice.ROLL_BACK.value]
    assert author(ledger) == (FinalDecision.ROLLED_BACK, "the deadline", SENTENCE)
    [decision] = ledger.decisions.of(KEY)
    assert decision.timed_out
    assert decision.at == datetime.fromisoformat(event["responded_at"])


def test_silence_that_goes_on_sends_nothing(airflow: Airflow, plane: ControlPlane, ledger: Ledger) -> None:
    event = event_of(trigger(default=Choice.GO_ON))
    assert (event["rollback"], airflow.written) == (None, [Choice.GO_ON.value])
    assert plane.shares == SHIPPED
    assert author(ledger) is None


def test_an_answer_in_the_last_moment_beats_the_deadline(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    reads: list[None] = []

    async def read(_ti_id: str, _log: Any) -> dict[str, Any] | None:
        reads.append(None)
        if len(reads) == 2:
            airflow.is_answered(Choice.GO_ON, reason="a known spike")
        return airflow.answer

    airflow.refuses = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_answer", read)
        event = event_of(trigger())
    assert event["chosen_options"] == [Choice.GO_ON.value]
    assert plane.shares == SHIPPED
    assert author(ledger) is None


def test_where_airflow_hangs_the_deadline_holds(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_WAIT", timedelta(milliseconds=5))
    monkeypatch.setattr(module, "CLOSE_WAIT", timedelta(milliseconds=5))
    airflow.hangs = Event()

    async def first_event() -> Any:
        event = await anext(trigger().run())
        # Only now does Airflow answer again, and the threads end.
        assert airflow.hangs is not None
        airflow.hangs.set()
        return event.payload

    event = asyncio.run(first_event())
    assert event["rollback"]["outcome"] == "accepted"
    assert plane.shares == ROLLED_BACK


def test_the_commanders_roll_back_now_leaves_from_the_trigger(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    airflow.is_answered(Choice.ROLL_BACK, reason="no more of this")
    event = event_of(trigger(seconds_left=600))
    assert plane.shares == ROLLED_BACK
    assert event["responded_by_user"]["name"] == "casey"
    assert author(ledger) == (FinalDecision.ROLLED_BACK, "casey", "no more of this")


@pytest.mark.parametrize(
    ("choice", "shares"),
    [(Choice.ROLL_BACK, ROLLED_BACK), (Choice.GO_ON, SHIPPED), (Choice.PROMOTE, SHIPPED), (None, SHIPPED)],
)
def test_a_trigger_that_airflow_takes_away_follows_the_answer_that_took_it_away(
    airflow: Airflow,
    plane: ControlPlane,
    ledger: Ledger,
    choice: Choice | None,
    shares: dict[str, float],
) -> None:
    if choice is not None:
        airflow.is_answered(choice, reason="a reason of its own")
    asyncio.run(trigger(seconds_left=600).on_kill())
    assert plane.shares == shares
    assert (author(ledger) is None) == (shares == SHIPPED)


def test_an_answer_is_followed_although_airflow_cancels_the_trigger_again_and_again(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        is_read, may_answer = asyncio.Event(), asyncio.Event()

        async def read(_ti_id: str, _log: Any) -> dict[str, Any] | None:
            is_read.set()
            await may_answer.wait()
            return airflow.answer

        monkeypatch.setattr(module, "read_answer", read)
        taken_away = asyncio.ensure_future(trigger(seconds_left=600).on_kill())
        await is_read.wait()
        taken_away.cancel()
        assert await asyncio.gather(taken_away, return_exceptions=True)
        may_answer.set()
        await asyncio.gather(*module._followed)

    airflow.is_answered(Choice.ROLL_BACK)
    asyncio.run(run())
    assert plane.shares == ROLLED_BACK
    assert author(ledger) == (FinalDecision.ROLLED_BACK, "casey", SENTENCE)


@pytest.mark.parametrize("choice", [Choice.GO_ON, Choice.PROMOTE])
def test_an_answer_is_in_the_ledger_before_its_task_runs(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, choice: Choice
) -> None:
    airflow.is_answered(choice, reason="a known spike")
    asyncio.run(trigger(seconds_left=600).on_kill())
    [decision] = ledger.decisions.of(KEY)
    assert (decision.option, decision.by, decision.reason) == (choice.value, "casey", "a known spike")
    overridden = [override.budget_ids for override in ledger.overrides.of(KEY)]
    assert overridden == ([("latency.p95_delta_pct",)] if choice is Choice.GO_ON else [])
    assert plane.accepted == []


def test_an_answer_that_cannot_be_followed_is_left_to_the_task(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    airflow.is_answered(Choice.GO_ON)
    event = event_of(trigger(seconds_left=600))
    assert event["chosen_options"] == [Choice.GO_ON.value]
    assert ledger.decisions.of(KEY) == []
    assert plane.accepted == []


def test_where_a_team_puts_the_baseline_back_nothing_is_sent(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    assert event_of(trigger(ours=False))["rollback"] is None
    airflow.is_answered(Choice.ROLL_BACK)
    asyncio.run(trigger(ours=False).on_kill())
    assert plane.shares == SHIPPED
    assert author(ledger) is None


@pytest.mark.parametrize(
    ("decision", "option"),
    [(FinalDecision.ROLLED_BACK, Choice.ROLL_BACK), (FinalDecision.PROMOTED, Choice.PROMOTE)],
)
def test_a_question_that_was_overtaken_is_closed(
    airflow: Airflow,
    plane: ControlPlane,
    ledger: Ledger,
    decision: FinalDecision,
    option: Choice,
) -> None:
    ledger.final_decisions.take(KEY, decision, "the rule", SENTENCE, NOON)
    event = event_of(trigger(seconds_left=600))
    assert event["closed"]["by"] == "the rule"
    assert airflow.written == [option.value]
    # Whoever decided the rollback may have ended before it was requested.
    assert plane.shares == (ROLLED_BACK if decision is FinalDecision.ROLLED_BACK else SHIPPED)


def test_what_was_rolled_back_and_verified_before_is_not_sent_again(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", SENTENCE, NOON)
    ledger.rollbacks.record(KEY, RollbackRecord(rollback_key(KEY), Outcome.EFFECTIVE, NOON, NOON))
    assert event_of(trigger(seconds_left=600))["rollback"]["outcome"] == "settled"
    assert plane.accepted == []


def test_where_the_ledger_hangs_the_deadline_holds(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wait in ("LOOK_WAIT", "RECORD_WAIT"):
        monkeypatch.setattr(module, wait, timedelta(milliseconds=5))
    monkeypatch.setattr("rollback_budget.rollback.request.LEDGER_WAIT", timedelta(milliseconds=5))
    test_is_over = Event()

    def hang() -> Ledger:
        test_is_over.wait()
        raise LedgerUnavailableError("gone")

    for user in ("common.config", "common.ledger_sync", "common.ledger_answer"):
        monkeypatch.setattr(f"rollback_budget.{user}.open_ledger", hang)

    async def first_event() -> Any:
        event = await anext(trigger().run())
        test_is_over.set()
        return event.payload

    assert asyncio.run(first_event())["rollback"]["outcome"] == "accepted"
    assert plane.shares == ROLLED_BACK


def test_an_answer_that_a_slow_look_missed_beats_the_deadline(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_WAIT", timedelta(milliseconds=5))
    airflow.refuses = True
    test_is_over = asyncio.Event()
    reads: list[None] = []

    async def read(_ti_id: str, _log: Any) -> dict[str, Any] | None:
        reads.append(None)
        if len(reads) == 1:
            # It began before the answer came.
            await test_is_over.wait()
            return None
        return airflow.answer

    airflow.is_answered(Choice.GO_ON, reason="a known spike")
    monkeypatch.setattr(module, "read_answer", read)
    assert event_of(trigger())["chosen_options"] == [Choice.GO_ON.value]
    assert plane.shares == SHIPPED


def test_an_open_question_is_noted_in_the_ledger_once_it_can_be(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger
) -> None:
    ledger.reviews.open(KEY, 1, NOON, OnTimeout.ROLLBACK, NOON)
    event_of(trigger())
    [review] = ledger.reviews.of(KEY)
    assert review.asked_at is not None


@pytest.mark.parametrize("is_over", [False, True])
def test_once_the_window_is_over_the_question_gives_the_sign_of_life(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, is_over: bool
) -> None:
    window_left = timedelta(minutes=-1 if is_over else 1)
    ledger.rollouts.record_shipped(KEY, NOON, utc_now() + window_left)
    event_of(trigger(window_left=window_left, default=Choice.GO_ON))
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert (signs.heartbeat_at is not None) is is_over


def test_an_answer_reaches_a_ledger_that_was_away(
    airflow: Airflow, plane: ControlPlane, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORD_WAIT", timedelta(0))
    monkeypatch.setattr(module, "RECORD_AGAIN_AFTER", timedelta(milliseconds=50))
    airflow.is_answered(Choice.GO_ON, reason="a known spike")
    file = tmp_path / "ledger.db"
    file.rename(tmp_path / "aside.db")

    async def run() -> None:
        [_ async for _ in trigger().run()]
        (tmp_path / "aside.db").rename(file)
        await asyncio.gather(*module._recordings)

    asyncio.run(run())
    [decision] = ledger.decisions.of(KEY)
    assert decision.option == Choice.GO_ON.value


def test_the_arguments_of_an_older_version_are_accepted() -> None:
    path, arguments = trigger().serialize()
    assert path == "rollback_budget.workflow.review_trigger.ReviewTrigger"
    rebuild: Callable[..., ReviewTrigger] = ReviewTrigger
    new = ("order", "reason", "round_", "budgets", "window_end")
    old = {name: value for name, value in arguments.items() if name not in new}
    assert rebuild(**old, retired_argument=1).order is None
