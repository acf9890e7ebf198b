"""A review's trigger that starts again after Airflow was down obeys what the ledger says meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.choice import Choice
from rollback_budget.triggers import review
from rollback_budget.triggers.review import ReviewTrigger
from tests.support.rollouts import KEY, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Airflow's own record of the question: no answer yet; what it is closed with is returned."""
    written: list[str] = []

    async def no_answer(*_arguments: object) -> None:
        return None

    monkeypatch.setattr(review, "read_answer", no_answer)
    monkeypatch.setattr(review, "_write_answer", lambda _ti, option, _given: written.append(option))
    return written


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(), utc_now())
    return ledger


def event_of(deadline_in: timedelta, round_: int = 1) -> dict[str, Any]:
    trigger = ReviewTrigger(
        ti_id="01950000-0000-7000-8000-000000000000",
        deadline=(utc_now() + deadline_in).isoformat(),
        default=Choice.ROLL_BACK.value,
        dag_id=KEY.dag_id,
        run_id=KEY.run_id,
        deferred_at="2020-01-01T00:00:00+00:00",
        round_=round_,
    )

    async def run() -> dict[str, Any]:
        async for event in trigger.run():
            payload: dict[str, Any] = event.payload
            return payload
        raise AssertionError("no event")

    return asyncio.run(run())


@pytest.mark.parametrize("deadline_in", [-MINUTE, MINUTE], ids=["after the deadline", "before it"])
def test_an_answer_of_decide_is_followed_and_the_question_closed_with_it(
    ledger: Ledger, closed: list[str], deadline_in: timedelta
) -> None:
    at = utc_now()
    until = at + 30 * MINUTE
    ledger.answers.take(KEY, Answer(1, Choice.GO_ON.value, "alice", "a load test", at, until, ("a.b",)))
    event = event_of(deadline_in)
    assert event["chosen_options"] == closed == [Choice.GO_ON.value]
    assert event["responded_by_user"] == {"id": "alice", "name": "alice"}
    assert event["responded_at"] == at.isoformat()
    assert event["params_input"] == {"reason": "a load test", "until": until.isoformat(), "mute": False}


def test_silence_that_standby_followed_has_no_author(ledger: Ledger, closed: list[str]) -> None:
    at = utc_now()
    ledger.answers.take(KEY, Answer(1, Choice.ROLL_BACK.value, None, None, at))
    event = event_of(MINUTE)
    assert (event["responded_by_user"], event["responded_at"]) == (None, at.isoformat())
    assert closed == [Choice.ROLL_BACK.value]


def test_the_answer_of_another_round_is_none_of_this_one(ledger: Ledger, closed: list[str]) -> None:
    ledger.answers.take(KEY, Answer(1, Choice.GO_ON.value, "alice", "a load test", utc_now(), utc_now()))
    assert event_of(-MINUTE, round_=2)["chosen_options"] == [Choice.ROLL_BACK.value]
    # A trigger of an older version does not know its round.
    assert event_of(-MINUTE, round_=0)["chosen_options"] == [Choice.ROLL_BACK.value]
