from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.outcome import Commanding, RolloutOutcome
from demo.scenarios import BASELINE, SCENARIOS, Scenario, write_budgets
from rollback_budget.budget_file import find_budgets, load_budget, preflight_problems
from rollback_budget.engine import Breach, VerdictKind
from rollback_budget.engine.evaluation import Comparand
from rollback_budget.ledger.debt_views import Debt, DebtState, Ticket, TicketState
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision, LoggedBreach, RollbackRecord
from rollback_budget.model.budget import Comparison, Method, Severity, Tier
from rollback_budget.model.watch_settings import Watch
from rollback_budget.targets.apply import Outcome

pytestmark = pytest.mark.pure

T = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
STEADY, SLIDE, INCIDENT = SCENARIOS


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def rolled_back(scenario: Scenario = SLIDE, by: str = "casey") -> RolloutOutcome:
    key = RolloutKey(scenario.dag_id, "run")
    breach = Breach(
        budget="latency.p95_delta_pct",
        area="latency",
        metric="p95",
        comparison=Comparison.DELTA_PCT,
        tier=scenario.tier or Tier.B,
        severity=Severity.MAJOR,
        method=Method.THRESHOLD,
        threshold=50,
        max_duration=seconds(10),
        burn=seconds(10),
        started_at=T - seconds(10),
        breached_at=T,
        delta=90,
        over_burn=Comparand(),
        sentence="slow",
    )
    debt = Debt(
        fingerprint="debt",
        service=scenario.service,
        area="latency",
        metric="p95",
        comparison=Comparison.DELTA_PCT,
        slice=None,
        severity=Severity.MAJOR,
        state=DebtState.FILED,
        occurrences=1,
        cycle=1,
        detected_at=T,
        last_breach_at=T,
        due_at=T,
        ticket=Ticket(TicketState.FILED, key="debt.md"),
    )
    return RolloutOutcome(
        scenario=scenario,
        key=key,
        run_state="success",
        watch=Watch(settle=seconds(2)),
        verdict=VerdictKind.BREACH,
        final=Final(FinalDecision.ROLLED_BACK, by, "slow", T),
        breaches=(LoggedBreach("b", "debt", key, scenario.service, scenario.release, BASELINE, breach, T),),
        rollback=RollbackRecord("key", Outcome.EFFECTIVE, T + seconds(9), T + seconds(15)),
        commanding=Commanding(T + seconds(4), T + seconds(7)),
        debts=(debt,),
        requested_at=T + seconds(10),
        applied={BASELINE: 1.0, scenario.release: 0.0},
        release_requests=0,
    )


def test_a_rollback_as_budgeted_has_no_problems_and_its_figures_add_up() -> None:
    outcome = rolled_back()
    assert list(outcome.problems()) == []
    assert list(rolled_back(INCIDENT, by="the rule").problems()) == []
    assert (outcome.seconds_to_request, outcome.seconds_to_verified, outcome.seconds_in_review) == (8, 13, 3)
    assert outcome.figures()["debts"] == ["debt.md"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"run_state": "failed"}, "its run is failed"),
        ({"verdict": VerdictKind.BLIND}, "its verdict is blind"),
        ({"final": Final(FinalDecision.PROMOTED, "casey", "", T)}, "it is promoted"),
        ({"final": Final(FinalDecision.ROLLED_BACK, "the deadline", "", T)}, "not casey who decided"),
        ({"breaches": ()}, "breaches of tiers"),
        ({"rollback": RollbackRecord("key", Outcome.FAILED, None, None)}, "not effective"),
        ({"applied": {BASELINE: 0.5, SLIDE.release: 0.5}}, "not all on model-v41"),
        ({"release_requests": 3}, "3 requests after its rollback"),
        ({"requested_at": None}, "never got a rollback request"),
        ({"debts": ()}, "eval debt is not filed"),
    ],
)
def test_whatever_goes_otherwise_is_a_problem(change: dict[str, object], problem: str) -> None:
    outcome: RolloutOutcome = replace(rolled_back(), **change)  # type: ignore[arg-type]
    assert any(problem in found for found in outcome.problems())


def test_a_promotion_is_a_problem_when_the_release_does_not_serve_alone() -> None:
    outcome = replace(
        rolled_back(STEADY),
        verdict=VerdictKind.HEALTHY,
        final=Final(FinalDecision.PROMOTED, "the rule", "", T),
        breaches=(),
        rollback=None,
        applied={BASELINE: 0.0, STEADY.release: 1.0},
    )
    assert list(outcome.problems()) == []
    assert list(replace(outcome, applied={BASELINE: 0.5, STEADY.release: 0.5}).problems()) != []


def test_the_demo_budgets_are_ready_to_ship(tmp_path: Path) -> None:
    folder = tmp_path / "budgets"
    write_budgets(folder, folder / "evals")
    specs = [load_budget(path) for path in find_budgets(folder)]
    assert sorted(spec.name for spec in specs) == sorted(scenario.name for scenario in SCENARIOS)
    assert [problem for spec in specs for problem in preflight_problems(spec)] == []
