"""What users are notified of when a release is promoted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rollback_budget.common.xcom import ANSWER_KEY, ReviewAnswer, Tasks
from rollback_budget.notifications.notification import Notification
from rollback_budget.operators.announce import AnnouncePromotionOperator
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = pytest.mark.airflow


def announced(monkeypatch: pytest.MonkeyPatch, answer: ReviewAnswer | None) -> str:
    xcom: dict[tuple[str, str], Any] = {("preflight", "return_value"): make_spec().canonical_json()}
    if answer is not None:
        xcom["round_1.review", ANSWER_KEY] = answer.model_dump(mode="json")
    sent: list[Notification] = []
    monkeypatch.setattr(
        AnnouncePromotionOperator, "send", lambda _self, _context, *messages: sent.extend(messages)
    )
    context: Any = {
        "ti": SimpleNamespace(xcom_pull=lambda task_ids, key: xcom.get((task_ids, key))),
        "dag_run": SimpleNamespace(dag_id=KEY.dag_id, run_id=KEY.run_id),
    }
    AnnouncePromotionOperator(task_id="announce", tasks=Tasks()).execute(context)
    [message] = sent
    return message.sentence


def answer(**changes: Any) -> ReviewAnswer:
    said = {"round_": 1, "option": "?", "go_on": False, "by": "casey", "reason": "a wrong classifier"}
    return ReviewAnswer(**{**said, "at": NOON, **changes})


def test_a_kept_budget_is_announced_as_the_end_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "the window is over, and model-v42 takes over from model-v41"
    assert announced(monkeypatch, None) == expected
    assert announced(monkeypatch, answer(go_on=True)) == expected


def test_a_commander_who_promotes_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(monkeypatch, answer(promote=True)).startswith(
        "casey ended the watch (a wrong classifier)"
    )
