"""Rollouts and breaches for tests, each with the one thing that a test is about."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, TypeVar

from rollback_budget.engine.evaluation import Breach, Comparand, Evaluation, VerdictKind
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision
from rollback_budget.model.budget import Budget, Comparison, Method, Severity, Tier, Worse
from rollback_budget.model.spec import RolloutSpec

T = TypeVar("T")

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = RolloutKey("rollout_model_v42", "manual__2026-03-01")


def make_spec(**changes: Any) -> RolloutSpec:
    budget = Budget(
        id="latency.p95_delta_pct",
        area="latency",
        metric="p95",
        comparison=Comparison.DELTA_PCT,
        threshold=15,
        worse=Worse.HIGHER,
        max_duration=timedelta(minutes=30),
        severity=Severity.MAJOR,
    )
    values: dict[str, Any] = {
        "name": "model-v42",
        "release": "model-v42",
        "baseline": "model-v41",
        "service": "support-bot",
        "window": timedelta(hours=24),
        "budgets": (budget,),
    }
    return RolloutSpec(**{**values, **changes})


def make_breach(at: datetime = NOON, **changes: Any) -> Breach:
    values: dict[str, Any] = {
        "budget": "latency.p95_delta_pct",
        "area": "latency",
        "metric": "p95",
        "comparison": Comparison.DELTA_PCT,
        "tier": Tier.B,
        "severity": Severity.MAJOR,
        "method": Method.THRESHOLD,
        "threshold": 15.0,
        "max_duration": timedelta(minutes=30),
        "burn": timedelta(minutes=30),
        "started_at": at - timedelta(minutes=30),
        "breached_at": at,
        "delta": 31.0,
        "over_burn": Comparand(delta=31.0, release_value=2.1, baseline_value=1.6),
        "sentence": "latency: p95 was 31 % above model-v41 for 30 min, budget +15 % for 30 min",
    }
    return Breach(**{**values, **changes})


def make_evaluation(*breaches: Breach) -> Evaluation:
    spec = make_spec()
    return Evaluation(
        verdict=VerdictKind.BREACH if breaches else VerdictKind.HEALTHY,
        final=True,
        release=spec.release,
        baseline=spec.baseline,
        spec_sha256=spec.sha256,
        window_start=NOON - timedelta(hours=1),
        window_end=NOON + timedelta(hours=23),
        evaluated_until=NOON,
        breaches=breaches,
    )


def log_breach(ledger: Ledger, breach: Breach, key: RolloutKey = KEY, **spec_changes: Any) -> str:
    """Log a breach of a rollout, which is opened when it has to be; return the breach's fingerprint."""
    ledger.rollouts.open(key, make_spec(**spec_changes), NOON - timedelta(hours=1))
    return ledger.breaches.log(key, [breach], breach.breached_at)[0]


def take_some_final(ledger: Ledger, number: int) -> Final:
    """Decide the rollout one way or the other, as the ``number``-th of several tasks."""
    decision = FinalDecision.PROMOTED if number % 2 else FinalDecision.ROLLED_BACK
    return ledger.final_decisions.take(
        KEY, decision, f"task {number}", "race", NOON + timedelta(seconds=number)
    )


def take_final_in_a_process(url: str, number: int, start: Any, answers: Any) -> None:
    """Wait at the barrier ``start``, decide the rollout, and put what holds into the queue ``answers``."""
    start.wait(60)
    answers.put(take_some_final(Ledger(url), number))


def race(runners: int, run: Callable[[int], T]) -> list[T]:
    """Call ``run`` from several threads that start together; return what each got."""
    start = Barrier(runners)

    def wait_and_run(number: int) -> T:
        start.wait()
        return run(number)

    with ThreadPoolExecutor(runners) as pool:
        return list(pool.map(wait_and_run, range(runners)))
