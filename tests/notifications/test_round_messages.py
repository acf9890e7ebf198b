"""What the notifications of a round say of its verdict."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.engine.evaluation import Blind, VerdictKind
from rollback_budget.notifications.round_messages import verdict_messages
from tests.support.rollouts import KEY, NOON, make_breach, make_evaluation, make_spec

pytestmark = pytest.mark.airflow

DOUBT = "the judge of latency.p95_delta_pct changed"


def test_a_breach_and_the_question_about_it_say_what_is_doubtful() -> None:
    evaluation = make_evaluation(make_breach()).model_copy(update={"doubts": (DOUBT,)})
    deadline = NOON + timedelta(minutes=15)
    breach, question = verdict_messages(KEY, make_spec(), 1, evaluation, deadline)
    assert breach.text.splitlines()[1] == f"{make_breach().sentence}; {DOUBT}"
    assert f"{DOUBT}. No answer by 12:15:00 UTC" in question.text


def test_a_blind_verdict_says_what_is_doubtful() -> None:
    blind = Blind(area="latency", since=NOON, sentence="latency: no budget could be read")
    changes = {"verdict": VerdictKind.BLIND, "blind": blind, "doubts": (DOUBT,)}
    evaluation = make_evaluation().model_copy(update=changes)
    (message,) = verdict_messages(KEY, make_spec(), 1, evaluation, None)
    assert message.sentence == f"latency: no budget could be read; {DOUBT}"
