"""Past rollouts in a ledger, watched by the engine as a live watch records them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rollback_budget.engine import Evaluation, Fold, Restart, Sample, Window, frame_of
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import LookRecord, pack
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, LoggedLook, Scope
from rollback_budget.model.choice import RULE
from rollback_budget.model.spec import RolloutSpec
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm


def key(number: int) -> RolloutKey:
    return RolloutKey("rollout_model_v42", f"manual__{number}")


def slow(minutes: range, version: str = RELEASE, length: int = 120) -> list[Sample]:
    """p95 is a third above the baseline's in these minutes."""
    release = [2.1 if minute in minutes else 1.6 for minute in range(1, length + 1)]
    return [*arm(version, release, n=200), *arm(BASELINE, [1.6] * length, n=200)]


def fold_looks(
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    suspensions: Sequence[Suspension] = (),
    restarts: Sequence[Restart] = (),
) -> tuple[Evaluation, list[tuple[int, tuple[BudgetSnapshot, ...]]]]:
    """Fold as a live watch does; return its evaluation, and what it records of every look."""
    window = Window(START, START + spec.window)
    fold = Fold(spec, window, restarts=restarts)
    fold.suspend(suspensions)
    looks: list[tuple[int, tuple[BudgetSnapshot, ...]]] = []
    end = min(max((sample.time for sample in samples), default=START), window.end)
    fold.fold(
        frame_of(spec, samples, start=START, end=end), lambda time, snapshots: looks.append((time, snapshots))
    )
    return fold.evaluation(), looks


def logged(looks: Sequence[tuple[int, tuple[BudgetSnapshot, ...]]]) -> list[LoggedLook]:
    """Return looks as the ledger gives them back: six digits, None for unknown."""
    return [
        LoggedLook(
            one.budget,
            us_to_datetime(time),
            one.look.status,
            timedelta(microseconds=one.burn),
            *(None if number != number else float(f"{number:.6g}") for number in one.look[2:7]),
            one.p_value,
            suspended=one.suspension is not None,
        )
        for time, snapshots in looks
        for one in snapshots
    ]


def watch(
    ledger: Ledger,
    number: int,
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    final: FinalDecision | None = None,
    by: str = RULE,
    suspensions: Sequence[Suspension] = (),
) -> Evaluation:
    """Record a rollout from ``START`` on, with the looks of its watch; it ends at the verdict.

    :param final: how it ended; None: by its verdict, promoted or rolled back.
    """
    name = key(number)
    for suspension in suspensions:
        ledger.suspensions.add(Scope(name.dag_id, name.run_id), suspension)
    ledger.rollouts.open(name, spec, START - MINUTE)
    ledger.rollouts.record_shipped(name, START, START + spec.window)
    evaluation, looks = fold_looks(spec, samples, suspensions=suspensions)
    ledger.looks.add(
        [LookRecord(name, us_to_datetime(time), pack(spec, snapshots)) for time, snapshots in looks]
    )
    end = evaluation.evaluated_until or START
    ledger.evaluations.add(name, 1, "watch", evaluation, end)
    ledger.breaches.log(name, evaluation.breaches, end)
    how = final or (FinalDecision.ROLLED_BACK if evaluation.breaches else FinalDecision.PROMOTED)
    ledger.final_decisions.take(name, how, by, evaluation.sentence, end)
    return evaluation
