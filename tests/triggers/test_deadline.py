"""A deadline holds although no task could run to ask the commander."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from rollback_budget.clock import utc_now
from rollback_budget.hooks import traffic_target
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.decision import OnTimeout
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.targets import apply as change
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.triggers import deadline as module
from tests.operators.scenarios import FastClock
from tests.support.control_plane import TARGET, ControlPlane
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

SPEC = make_spec(target=TARGET)
SHIPPED = {SPEC.release: 0.1, SPEC.baseline: 0.9}
SENTENCE = "latency: p95 was 31 % above model-v41"


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    plane = ControlPlane(dict(SHIPPED))
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())
    monkeypatch.setattr(module, "MARGIN", timedelta(0))
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


def open_review(ledger: Ledger, on_timeout: OnTimeout = OnTimeout.ROLLBACK) -> None:
    ledger.reviews.open(KEY, 1, NOON + timedelta(minutes=15), on_timeout, NOON)


def pass_deadline() -> None:
    async def run() -> None:
        terms = rollback_terms(SPEC, SHIPPED)
        assert terms is not None
        order = RollbackOrder(rollout=KEY, spec=SPEC, terms=terms)
        module.keep_deadline(order, 1, utc_now(), SENTENCE)
        await asyncio.gather(*module._kept)

    asyncio.run(run())


def test_a_question_that_could_not_be_asked_rolls_back_at_its_deadline(
    plane: ControlPlane, ledger: Ledger
) -> None:
    open_review(ledger)
    pass_deadline()
    assert plane.shares[SPEC.release] == 0
    final = ledger.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by, final.reason) == (FinalDecision.ROLLED_BACK, "the deadline", SENTENCE)


def test_a_question_that_is_open_is_left_to_its_own_trigger(plane: ControlPlane, ledger: Ledger) -> None:
    open_review(ledger)
    ledger.reviews.note_asked(KEY, 1, NOON)
    pass_deadline()
    assert plane.accepted == []


def test_silence_that_goes_on_rolls_nothing_back(plane: ControlPlane, ledger: Ledger) -> None:
    open_review(ledger, OnTimeout.CONTINUE)
    pass_deadline()
    assert plane.accepted == []


def test_an_answer_or_an_end_in_the_ledger_holds(plane: ControlPlane, ledger: Ledger) -> None:
    open_review(ledger)
    ledger.decisions.add(KEY, 1, "Go on", "casey", "a known spike", NOON, timed_out=False)
    pass_deadline()
    assert plane.accepted == []


def test_without_the_ledger_nothing_is_guessed(
    plane: ControlPlane, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_ON", timedelta(seconds=-1))
    open_review(ledger)
    (tmp_path / "ledger.db").unlink()
    pass_deadline()
    assert plane.accepted == []


def test_a_ledger_that_is_away_at_the_deadline_is_asked_again(
    plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER", timedelta(0))
    open_review(ledger)
    asked: list[None] = []

    def open_ledger() -> Ledger:
        asked.append(None)
        return Ledger("sqlite:////nowhere/ledger.db") if len(asked) == 1 else ledger

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.config, "open_ledger", open_ledger)
        pass_deadline()
    assert plane.shares[SPEC.release] == 0.0


@pytest.mark.parametrize(("state", "sends"), [("deferred", False), ("success", False), ("scheduled", True)])
def test_a_question_that_airflow_has_asked_is_left_to_its_task_though_the_ledger_does_not_say_so(
    plane: ControlPlane, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, state: str, sends: bool
) -> None:
    open_review(ledger)
    states = {KEY.run_id: {"rollout.round_1.watch": "success", "rollout.round_1.review": state}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_which: states)
    pass_deadline()
    assert bool(plane.accepted) is sends
