"""A rollback leaves from where the verdict is known: once, over no newer decision, and held up by nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from threading import Event

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.exceptions import LedgerUnavailableError, TargetError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.rollback import request as module
from rollback_budget.rollback.order import RollbackOrder, rollback_key
from rollback_budget.rollback.request import RequestOutcome, RollbackSender, Verdict
from rollback_budget.targets import apply as change
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.base import Target
from rollback_budget.targets.rollback_terms import rollback_terms
from tests.operators.scenarios import FastClock
from tests.support.control_plane import TARGET, ControlPlane
from tests.support.rollouts import KEY, NOON, make_breach, make_evaluation, make_spec

pytestmark = pytest.mark.database

SPEC = make_spec(target=TARGET)
SHIPPED = {SPEC.release: 0.1, SPEC.baseline: 0.9}
ROLLED_BACK = {SPEC.release: 0.0, SPEC.baseline: 1.0}
TERMS = rollback_terms(SPEC, SHIPPED)
assert TERMS is not None
ORDER = RollbackOrder(rollout=KEY, spec=SPEC, terms=TERMS)
SENTENCE = "latency: p95 was 31 % above model-v41"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane(dict(SHIPPED))


@pytest.fixture
def opened(ledger: Ledger) -> Ledger:
    ledger.rollouts.open(KEY, SPEC, NOON)
    return ledger


def sender(open_ledger: Callable[[], Ledger], plane: ControlPlane) -> RollbackSender:
    def open_target(_spec: RolloutSpec, _most: timedelta) -> AbstractContextManager[Target]:
        return nullcontext(plane)

    return RollbackSender(open_ledger, open_target, logging.getLogger(__name__))


def unavailable() -> Ledger:
    raise LedgerUnavailableError("connection refused")


def test_the_decision_is_taken_and_the_target_is_asked(opened: Ledger, plane: ControlPlane) -> None:
    verdict = Verdict(make_evaluation(make_breach()), 1, "watch")
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE, verdict)
    assert request.outcome is RequestOutcome.ACCEPTED
    assert plane.accepted == [(rollback_key(KEY), ROLLED_BACK)]
    final = opened.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by, final.reason) == (FinalDecision.ROLLED_BACK, "the rule", SENTENCE)
    record = opened.rollbacks.of(KEY)
    assert record is not None
    assert (record.outcome, record.requested_at) == (None, request.requested_at)
    [logged] = opened.evaluations.of(KEY)
    assert logged.evaluation.breaches == (make_breach(),)


def test_a_promoted_rollout_is_left_alone(opened: Ledger, plane: ControlPlane) -> None:
    opened.final_decisions.take(KEY, FinalDecision.PROMOTED, "casey", "it is fine", NOON)
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.PROMOTED
    assert plane.accepted == []


@pytest.mark.parametrize("outcome", [Outcome.EFFECTIVE, Outcome.SUPERSEDED])
def test_a_settled_rollback_is_not_sent_again_even_where_a_user_put_the_release_back(
    opened: Ledger, plane: ControlPlane, outcome: Outcome
) -> None:
    opened.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", SENTENCE, NOON)
    opened.rollbacks.record(KEY, RollbackRecord(rollback_key(KEY), outcome, NOON, NOON))
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.SETTLED
    assert plane.shares == SHIPPED


def test_a_newer_change_of_another_user_is_kept(opened: Ledger, plane: ControlPlane) -> None:
    plane.shares = theirs = {SPEC.release: 0.3, SPEC.baseline: 0.7}
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.SUPERSEDED
    assert plane.shares == theirs


def test_a_record_that_breaks_does_not_hide_that_the_rollback_was_requested(
    opened: Ledger, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a driver's own error")

    monkeypatch.setattr(opened.rollbacks, "record_request", breaks)
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.ACCEPTED
    assert plane.shares == ROLLED_BACK


def test_an_unavailable_ledger_holds_nothing_up(plane: ControlPlane) -> None:
    request = sender(unavailable, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.ACCEPTED
    assert plane.shares == ROLLED_BACK


def test_a_ledger_that_never_answers_holds_nothing_up(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEDGER_WAIT", timedelta(milliseconds=20))
    test_is_over = Event()

    def hang() -> Ledger:
        test_is_over.wait()
        return unavailable()

    try:
        request = sender(hang, plane).request(ORDER, "the rule", SENTENCE)
    finally:
        test_is_over.set()
    assert request.outcome is RequestOutcome.ACCEPTED
    assert plane.shares == ROLLED_BACK


def test_a_rollout_that_the_ledger_does_not_know_is_rolled_back(ledger: Ledger, plane: ControlPlane) -> None:
    request = sender(lambda: ledger, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.ACCEPTED


def test_a_target_that_refuses_at_first_is_asked_again(opened: Ledger, plane: ControlPlane) -> None:
    plane.refuses = 3
    assert (
        sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE).outcome is RequestOutcome.ACCEPTED
    )
    assert plane.shares == ROLLED_BACK


def test_a_target_that_refuses_for_long_is_left_to_the_tasks(opened: Ledger, plane: ControlPlane) -> None:
    plane.refuses = -1
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert request.outcome is RequestOutcome.NOT_ACCEPTED
    assert "503" in request.detail
    assert opened.rollbacks.of(KEY) is None
    assert opened.final_decisions.of(KEY) is not None


@pytest.mark.parametrize("error", [TargetError("the connection router cannot be used"), RuntimeError("odd")])
def test_a_target_that_cannot_be_opened_is_left_to_the_tasks(opened: Ledger, error: Exception) -> None:
    def open_target(_spec: RolloutSpec, _most: timedelta) -> AbstractContextManager[Target]:
        raise error

    request = RollbackSender(lambda: opened, open_target, logging.getLogger(__name__)).request(
        ORDER, "the rule", SENTENCE
    )
    assert request.outcome is RequestOutcome.NOT_ACCEPTED
    assert request.detail


def test_many_at_once_have_one_effect(opened: Ledger, plane: ControlPlane) -> None:
    one = sender(lambda: opened, plane)
    with ThreadPoolExecutor(4) as pool:
        requests = list(pool.map(lambda _: one.request(ORDER, "the rule", SENTENCE), range(4)))
    assert {request.outcome for request in requests} <= {RequestOutcome.ACCEPTED, RequestOutcome.SETTLED}
    assert plane.accepted == [(rollback_key(KEY), ROLLED_BACK)]
    assert plane.shares == ROLLED_BACK


def test_a_request_takes_no_longer_for_one_answer_than_the_budget_allows(
    opened: Ledger, plane: ControlPlane
) -> None:
    asked: list[timedelta] = []

    def open_target(_spec: RolloutSpec, most: timedelta) -> AbstractContextManager[Target]:
        asked.append(most)
        return nullcontext(plane)

    RollbackSender(lambda: opened, open_target, logging.getLogger(__name__)).request(
        ORDER, "the rule", SENTENCE
    )
    assert asked == [timedelta(seconds=2)]


def test_no_stage_begins_after_the_decision(opened: Ledger, plane: ControlPlane) -> None:
    until = utc_now() + timedelta(minutes=1)
    assert opened.stages.begin_write(KEY, until)
    opened.stages.end_write(KEY)
    sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert not opened.stages.begin_write(KEY, until)
    assert opened.stages.write_until(KEY) is None


def test_a_rollback_waits_for_a_stage_that_is_being_written(
    opened: Ledger, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.stages.begin_write(KEY, utc_now() + timedelta(minutes=1))
    seen: list[str] = []
    plane.before_write = lambda _key: seen.append("rollback sent")

    def stage_ends(_seconds: float) -> None:
        if not seen:
            seen.append("stage ended")
            opened.stages.end_write(KEY)

    monkeypatch.setattr(module.time, "sleep", stage_ends)
    sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert seen == ["stage ended", "rollback sent"]


def test_a_rollback_does_not_wait_for_a_stage_whose_task_is_gone(opened: Ledger, plane: ControlPlane) -> None:
    opened.stages.begin_write(KEY, utc_now() - timedelta(seconds=1))
    sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE)
    assert plane.shares == ROLLED_BACK


def test_what_came_after_a_verified_rollback_is_moved_back_under_a_key_of_its_own(
    opened: Ledger, plane: ControlPlane
) -> None:
    opened.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", SENTENCE, NOON)
    opened.rollbacks.record(KEY, RollbackRecord(rollback_key(KEY), Outcome.EFFECTIVE, NOON, NOON))
    request = sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE, after="stage")
    assert request.outcome is RequestOutcome.ACCEPTED
    assert plane.accepted == [(f"{rollback_key(KEY)}/after_stage", ROLLED_BACK)]


def test_traffic_on_its_way_back_by_another_process_is_not_taken_for_a_newer_change(
    opened: Ledger, plane: ControlPlane
) -> None:
    opened.rollbacks.record_request(KEY, rollback_key(KEY), NOON, "model-v42 10 %", "requested")
    plane.shares = {SPEC.release: 0.05, SPEC.baseline: 0.95}
    assert (
        sender(lambda: opened, plane).request(ORDER, "the rule", SENTENCE).outcome is RequestOutcome.ACCEPTED
    )


def test_a_rollback_that_was_proven_stays_proven_whoever_else_cannot_see_it(opened: Ledger) -> None:
    opened.rollbacks.record(KEY, RollbackRecord(rollback_key(KEY), Outcome.EFFECTIVE, NOON, NOON))
    opened.rollbacks.record(
        KEY, RollbackRecord(rollback_key(KEY), Outcome.ACCEPTED_NOT_EFFECTIVE, NOON, None)
    )
    record = opened.rollbacks.of(KEY)
    assert record is not None
    assert record.outcome is Outcome.EFFECTIVE
