"""Who a rollback is put down to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rollback_budget.common.xcom import ANSWER_KEY, ReviewAnswer, RolloutXcom, Tasks
from rollback_budget.operators.rollback import author_of
from tests.support.rollouts import NOON, make_breach, make_evaluation

pytestmark = pytest.mark.airflow

BREACH = make_evaluation(make_breach())


def author(**left: Any) -> tuple[str, str]:
    """Return the author, given what tasks left behind: ``watch_1``, ``guard_1``, ``answer_1`` and so on."""
    xcom = {}
    for name, value in left.items():
        kind, round_ = name.split("_")
        key = (f"round_{round_}.review", ANSWER_KEY)
        if kind != "answer":
            key = (f"round_{round_}.{kind}", "return_value")
        xcom[key] = value.model_dump(mode="json")
    ti = SimpleNamespace(xcom_pull=lambda task_ids, key: xcom.get((task_ids, key)))
    context: Any = {"ti": ti}
    return author_of(RolloutXcom(Tasks(), context), rounds=3)


def answer(round_: int, *, go_on: bool, by: str | None = "casey") -> ReviewAnswer:
    return ReviewAnswer(round_=round_, option="?", go_on=go_on, by=by, reason="my reason", at=NOON)


def test_a_breach_is_put_down_to_the_rule() -> None:
    assert author(watch_1=BREACH) == ("the rule", BREACH.sentence)


def test_an_answer_is_put_down_to_the_commander_and_silence_to_the_deadline() -> None:
    assert author(watch_1=BREACH, answer_1=answer(1, go_on=False)) == ("casey", "my reason")
    assert author(watch_1=BREACH, answer_1=answer(1, go_on=False, by=None))[0] == "the deadline"


def test_a_tier_a_breach_during_the_review_comes_before_its_answer() -> None:
    said = author(watch_1=BREACH, guard_1=BREACH, answer_1=answer(1, go_on=False))
    assert said == ("the rule", BREACH.sentence)


def test_a_commander_who_went_on_is_not_the_author_of_a_later_rollback() -> None:
    assert author(watch_1=BREACH, answer_1=answer(1, go_on=True), watch_2=BREACH)[0] == "the rule"
    said = author(watch_1=BREACH, answer_1=answer(1, go_on=True))
    assert said == ("the rule", "the watch gave no verdict")
