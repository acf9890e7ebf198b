"""A rollout that is not in the ledger any more: traffic goes back, and no task retries its writing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from rollback_budget.common.commander_response import Choice
from rollback_budget.model.budget import Tier
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from tests.operators.scenarios import FastClock, SimulatedRollout
from tests.support.rollouts import make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]


@pytest.fixture
def sim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedRollout:
    """A rollout that has shipped, and that the ledger then knows no more."""
    file = tmp_path / "ledger.db"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", f"sqlite:///{file}")
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS",
        SimpleNamespace(send=lambda **_message: None),
        raising=False,
    )
    monkeypatch.setattr("rollback_budget.targets.apply.DeadlineClock", FastClock)
    late = make_spec().budgets[0]
    severe = late.model_copy(update={"id": "safety.p95_delta_pct", "area": "safety", "tier": Tier.A})
    target = HttpTarget(
        conn_id="router", read=HttpRead(path="/"), write=HttpWrite(path="/"), deadline=timedelta(seconds=5)
    )
    sim = SimulatedRollout(make_spec(budgets=(late, severe), target=target), file)
    monkeypatch.setattr("rollback_budget.hooks.traffic_target.open_target", lambda _spec: sim.plane)
    sim.settle()
    with sim.ledger.database.write() as session:
        session.execute(text("UPDATE rollouts SET run_id = 'of another ledger'"))
    return sim


def end_by_tier_a(sim: SimulatedRollout) -> None:
    sim.see(sim.breach(Tier.A), "watch", 1)


def end_by_review(sim: SimulatedRollout) -> None:
    sim.see(sim.breach(Tier.B), "watch", 1)
    sim.settle()
    assert not sim.review_is_over(1)
    sim.answer(1, Choice.ROLL_BACK, reason="it is worse")


@pytest.mark.parametrize("end", [end_by_tier_a, end_by_review])
def test_the_baseline_comes_back_and_the_tasks_that_write_the_ledger_fail_at_once(
    sim: SimulatedRollout, end: Callable[[SimulatedRollout], None]
) -> None:
    end(sim)
    sim.settle()
    assert sim.plane.shares == {sim.spec.baseline: 1.0, sim.spec.release: 0.0}
    assert sim.states["rollback"] == "success"
    assert sim.states["record_rollback"] == "failed"
    assert sim.states["round_1.log_breach"] == "failed"
