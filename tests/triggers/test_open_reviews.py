"""Open reviews of one process ask together, and what one of them may hear does not hang on another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.choice import Choice
from rollback_budget.triggers import open_reviews as module
from rollback_budget.triggers.open_reviews import OpenReviews, Question, ReviewState
from tests.support.rollouts import NOON, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

KEYS = [RolloutKey("night", f"run-{number}") for number in range(20)]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    for key in KEYS:
        ledger.rollouts.open(key, make_spec(), NOON)
    return ledger


def states(*questions: Question) -> list[ReviewState]:
    async def ask() -> list[ReviewState]:
        reviews = OpenReviews.of_this_loop()
        return list(await asyncio.gather(*map(reviews.state, questions)))

    return asyncio.run(ask())


def test_all_are_one_question_and_each_gets_its_own_answer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Collection[Question]] = []
    read = module._read

    def counting(questions: Collection[Question]) -> dict[Question, ReviewState]:
        batches.append(questions)
        return read(questions)

    monkeypatch.setattr(module, "_read", counting)
    ledger.final_decisions.take(KEYS[3], FinalDecision.PROMOTED, "casey", "fine", NOON)
    ledger.answers.take(KEYS[5], Answer(1, Choice.ROLL_BACK.value, "casey", None, utc_now()))
    found = states(*((key, 1) for key in KEYS))
    assert len(batches) == 1
    assert [state.final is not None for state in found] == [number == 3 for number in range(20)]
    assert [state.answer is not None for state in found] == [number == 5 for number in range(20)]
    assert not any(state.problem for state in found)


def test_a_rollout_that_the_ledger_does_not_know_is_a_problem_of_its_own(ledger: Ledger) -> None:
    ledger.final_decisions.take(KEYS[0], FinalDecision.PROMOTED, "casey", "fine", NOON)
    stranger, known = states((RolloutKey("night", "nobody"), 1), (KEYS[0], 1))
    assert "is not in the ledger" in stranger.problem
    assert known.final is not None


def test_a_ledger_that_is_away_answers_all_with_the_problem(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").unlink()
    assert all("no ledger" in state.problem for state in states((KEYS[0], 1), (KEYS[1], 1)))


def test_one_who_gives_up_leaves_the_answer_to_the_others(ledger: Ledger) -> None:
    async def ask() -> ReviewState:
        reviews, question = OpenReviews.of_this_loop(), (KEYS[0], 1)
        hasty, patient = (asyncio.ensure_future(reviews.state(question)) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        return await patient

    assert asyncio.run(ask()) == ReviewState()


def test_the_more_reviews_wait_the_less_often_each_asks_airflow() -> None:
    reviews = OpenReviews()
    reviews.enter()
    assert reviews.ask_again_at(0.0) < 1
    for _ in range(499):
        reviews.enter()
    assert 30 < reviews.ask_again_at(0.0) < 70
    for _ in range(500):
        reviews.leave()
    assert reviews.ask_again_at(7.0) == 7.0
