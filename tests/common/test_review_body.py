"""What the commander reads, on a phone, at three in the morning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollback_budget.common.config import link_to_run
from rollback_budget.common.review_body import ReviewContext, burn_bar, review_body, sparkline
from rollback_budget.common.xcom import ReviewAnswer
from rollback_budget.engine.evaluation import BudgetEvaluation, Evaluation, Look, Status
from rollback_budget.engine.silence_policy import ReviewTerms
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison, Method, Tier, Worse
from rollback_budget.model.decision import OnTimeout
from tests.engine.builders import budget, rollout
from tests.support.rollouts import KEY, NOON, make_breach, make_evaluation

pytestmark = pytest.mark.airflow

INCIDENTS = budget(
    "incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", worse=Worse.HIGHER, tier=Tier.A
)
HOSTILE = "{{ ti.xcom_pull() }} \"</script>\n'; DROP TABLE rollouts; -- | **bold** [x](http://x) `"


def look(minute: int, delta: float, status: Status = Status.BAD) -> Look:
    return Look(time=NOON + timedelta(minutes=minute), status=status, delta=delta)


def breached() -> Evaluation:
    spec = rollout(budget(), INCIDENTS)
    stand = [
        BudgetEvaluation(
            budget=one.id,
            tier=one.tier,
            method=Method.THRESHOLD,
            method_reason="",
            look=look(0, 31.0) if one.tier is Tier.B else look(0, 0.0, Status.GOOD),
            burn=one.max_duration,
            remaining=timedelta(0),
            looks=60,
            unknown_looks=0,
        )
        for one in spec.budgets
    ]
    breach = make_breach(samples=tuple(look(minute - 30, 15.5 + minute / 2) for minute in range(31)))
    return make_evaluation(breach).model_copy(update={"budgets": tuple(stand)})


def body(**changes: Any) -> str:
    given: dict[str, Any] = {
        "spec": rollout(budget(), INCIDENTS),
        "evaluation": breached(),
        "deadline": datetime(2026, 3, 1, 3, 27, 40, tzinfo=UTC),
        "question": ReviewTerms(timedelta(minutes=15), OnTimeout.ROLLBACK),
        "round_": 1,
        "rounds": 3,
        "key": KEY,
    }
    return review_body(ReviewContext(**{**given, **changes}))


def test_the_breach_comes_first_then_what_silence_does_and_when() -> None:
    lines = [line for line in body().splitlines() if line]
    assert lines[0].startswith("**latency: p95 was 31 % above model-v41")
    assert lines[1].startswith("**No answer by 03:27 UTC rolls back.** Tier A is watched meanwhile")
    assert "`▁" in lines[2]
    assert "█` 12:00 UTC" in lines[2]
    lenient = body(question=ReviewTerms(timedelta(seconds=30), OnTimeout.CONTINUE))
    assert "**No answer by 03:27:40 UTC goes on.**" in lenient


def test_every_budget_stands_in_the_table_with_its_burn() -> None:
    rows = [line for line in body().splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| **latency.p95\\_delta\\_pct \\(tier B\\)** | 🔴 bad \\+31 | ▰▰▰▰▰▰▰▰ 30 min of 30 min |",
        "| safety.incidents\\_increase \\(tier A\\) | 🟢 good \\+0 | ▱▱▱▱▱▱▱▱ breaches at once |",
    ]


def test_the_chart_is_linked_where_there_is_one() -> None:
    assert "Chart" not in body()
    assert "(https://airflow.example/chart.svg)" in body(chart="https://airflow.example/chart.svg")


def test_a_rule_without_tier_a_promises_no_guard() -> None:
    assert "Tier A" not in body(spec=rollout(budget()))


def test_it_says_how_often_one_may_still_go_on_and_what_was_said_before() -> None:
    assert "asked once more at most" in body()
    earlier = ReviewAnswer(
        round_=1,
        option="Go on",
        go_on=True,
        by="casey",
        reason="a **known** spike",
        at=NOON,
        budgets=("latency.p95_delta_pct",),
        until=NOON + timedelta(hours=2),
    )
    again = body(round_=2, earlier=(earlier,))
    assert "a further breach rolls back without asking" in again
    assert "At 12:00 UTC casey said Go on, until 14:00 UTC: a \\*\\*known\\*\\* spike" in again


def test_what_is_doubtful_about_the_breach_is_said_before_the_numbers() -> None:
    of_breach, of_other = "the judge of x_y changed", "the judge of another changed"
    evaluation = breached()
    budgets = [
        one.model_copy(update={"doubt": of_breach if one.tier is Tier.B else of_other})
        for one in evaluation.budgets
    ]
    doubtful = {"budgets": tuple(budgets), "doubts": ("the comparison is doubtful", of_breach, of_other)}
    lines = [line for line in body(evaluation=evaluation.model_copy(update=doubtful)).splitlines() if line]
    assert lines[0].endswith("for 30 min**")
    assert lines[2:4] == [
        "**Mind that** the comparison is doubtful.",
        "**Mind that** the judge of x\\_y changed.",
    ]
    assert "█` 12:00 UTC" in lines[4]
    assert "Mind that" not in body()


def test_a_watch_that_failed_is_said_and_its_numbers_are_not_made_up() -> None:
    said = body(evaluation=None)
    assert said.startswith("**The watch failed and gave no verdict")
    assert "| budget" not in said


def test_names_and_reasons_are_data() -> None:
    spec = rollout(budget()).model_copy(update={"release": HOSTILE, "service": HOSTILE})
    said = body(spec=spec, key=RolloutKey(HOSTILE, "r"))
    assert HOSTILE not in said
    assert "\\*\\*bold\\*\\* \\[x\\]\\(http://x\\)" in said


def test_the_link_to_the_run_keeps_the_base_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow/")
    link = link_to_run(RolloutKey("rollout_model-v42", "manual__2026-03-01T12:00:00+00:00 (1)"))
    run = "manual__2026-03-01T12%3A00%3A00%2B00%3A00%20%281%29"
    assert link == f"https://example.com/team/airflow/dags/rollout_model-v42/runs/{run}"
    assert body(link=link).endswith(f"]({link})")
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert link_to_run(KEY) is None


def test_bars_show_what_is_worse_the_highest() -> None:
    assert sparkline([1, 2, 3, 8]) == "▁▂▃█"
    assert sparkline([-1, -8], upside_down=True) == "▁█"
    assert sparkline([5]) == "▁"
    assert len(sparkline(list(range(120)))) == 30
    assert burn_bar(29 / 30) == "▰▰▰▰▰▰▰▱"
    assert burn_bar(3.3) == "▰▰▰▰▰▰▰▰"
