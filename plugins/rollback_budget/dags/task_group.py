"""A rollout as a task group, for a team's own DAG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TaskGroup, TriggerRule

from rollback_budget.budget_file import load_budget
from rollback_budget.common.xcom import Tasks
from rollback_budget.engine.decision_policy import rounds_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.operators.announce import (
    AnnouncePromotionOperator,
    AnnounceRollbackOperator,
    AnnounceRoundOperator,
)
from rollback_budget.operators.decide import DecideOperator
from rollback_budget.operators.launch_gate import LaunchGateOperator
from rollback_budget.operators.log_breach import LogBreachOperator
from rollback_budget.operators.preflight import PreflightOperator
from rollback_budget.operators.promote import PromoteOperator
from rollback_budget.operators.review import ReviewOperator
from rollback_budget.operators.rollback import RecordRollbackOperator, RollbackOperator, VerdictOperator
from rollback_budget.operators.ship import ShipOperator
from rollback_budget.operators.traffic_ramp import StagesOperator
from rollback_budget.sensors.rollout_round import GuardSensor, WatchSensor

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class RollbackBudgetGroup(TaskGroup):
    """
    The rollout of one budget: preflight, launch gate, ship, rounds of watching, then rollback or promote.

    :param budget: path of the budget file.
    :param ship: the team's own operator or task group that ships the release; by default the target of the
        budget file.
    :param rollback: the team's own operator or task group that puts the baseline back. It finds the verdict
        as the XCom value of the task ``verdict``. What it did is then verified, so the budget still names a
        target to read.
    :param promote: the team's own operator or task group that ends the rollout well.
    """

    def __init__(
        self,
        *,
        budget: str | Path,
        group_id: str = "rollback_budget",
        ship: BaseOperator | TaskGroup | None = None,
        rollback: BaseOperator | TaskGroup | None = None,
        promote: BaseOperator | TaskGroup | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(group_id=group_id, **kwargs)
        with self:
            build_rollout(
                load_budget(Path(budget)),
                budget,
                Tasks(self.child_id("")),  # type: ignore[no-untyped-call]
                ship=ship,
                rollback=rollback,
                promote=promote,
            )


def build_rollout(
    spec: RolloutSpec,
    budget: str | Path,
    tasks: Tasks,
    *,
    ship: BaseOperator | TaskGroup | None = None,
    rollback: BaseOperator | TaskGroup | None = None,
    promote: BaseOperator | TaskGroup | None = None,
) -> None:
    """Make the tasks of a rollout in the current DAG or task group and wire them."""
    rounds = rounds_of(spec)
    sends = ship is None or rollback is None or promote is None
    preflight = PreflightOperator(
        task_id="preflight", budget=budget, tasks=tasks, sends=sends, ships=ship is None
    )
    launch_gate = LaunchGateOperator(task_id="launch_gate", tasks=tasks)
    shipped = ShipOperator(task_id="ship", tasks=tasks, send=ship is None, rolls_back=rollback is None)
    preflight >> launch_gate
    if ship is None:
        launch_gate >> shipped
    else:
        launch_gate >> ship >> shipped
    baseline_back = RollbackOperator(
        task_id="rollback",
        tasks=tasks,
        rounds=rounds,
        send=rollback is None,
        # Whatever became of a team's own rollback, what serves now is looked at.
        trigger_rule=TriggerRule.ONE_SUCCESS if rollback is None else TriggerRule.ALL_DONE,
    )
    way_back: BaseOperator = baseline_back
    if rollback is not None:
        way_back = VerdictOperator(
            task_id="verdict",
            tasks=tasks,
            rounds=rounds,
            trigger_rule=TriggerRule.ONE_SUCCESS,
        )
        way_back >> rollback >> baseline_back
    baseline_back >> RecordRollbackOperator(
        task_id="record_rollback", tasks=tasks, rounds=rounds, trigger_rule=TriggerRule.NONE_SKIPPED
    )
    baseline_back >> AnnounceRollbackOperator(
        task_id="announce_rollback", tasks=tasks, trigger_rule=TriggerRule.ALL_DONE
    )
    promoted = PromoteOperator(
        task_id="promote",
        tasks=tasks,
        rounds=rounds,
        send=promote is None,
        trigger_rule=TriggerRule.ONE_SUCCESS,
    )
    promoted >> AnnouncePromotionOperator(task_id="announce_promotion", tasks=tasks)
    if promote is not None:
        promoted >> promote
    if ship is None and spec.target is not None and spec.target.stages:
        shipped >> StagesOperator(task_id="stages", tasks=tasks, rounds=rounds)
    previous: BaseOperator = shipped
    for round_ in range(1, rounds + 1):
        previous = _build_round(
            tasks,
            round_,
            rounds,
            budget,
            after=previous,
            rollback=way_back,
            promote=promoted,
            sends=rollback is None,
        )


def _build_round(
    tasks: Tasks,
    round_: int,
    rounds: int,
    budget: str | Path,
    *,
    after: BaseOperator,
    rollback: BaseOperator,
    promote: BaseOperator,
    sends: bool,
) -> BaseOperator:
    """Build one round behind ``after`` and return the task that the next round follows.

    ``sends`` says whether a rollback is ours to request.

    ``kept``, ``breached``, ``overruled`` and ``accepted`` are empty: behind a branch, one_success would
    else fire on the branch itself.
    """
    asks = round_ < rounds
    with TaskGroup(group_id=f"round_{round_}"):
        watch = WatchSensor(task_id="watch", tasks=tasks, round_=round_, sends=sends)
        decide = DecideOperator(
            task_id="decide",
            tasks=tasks,
            round_=round_,
            rounds=rounds,
            budget=budget,
            trigger_rule=TriggerRule.NONE_SKIPPED,
        )
        kept = _join("kept")
        breached = _join("breached")
        log_breach = LogBreachOperator(task_id="log_breach", tasks=tasks, round_=round_)
        announce = AnnounceRoundOperator(task_id="announce", tasks=tasks, round_=round_)
        after >> watch >> decide >> [kept, breached, log_breach, announce]
        kept >> promote
        breached >> rollback
        if not asks:
            return decide
        review = ReviewOperator(task_id="review", tasks=tasks, round_=round_, rounds=rounds, sends=sends)
        guard = GuardSensor(task_id="guard", tasks=tasks, round_=round_, sends=sends)
        overruled = _join("overruled")
        accepted = _join("accepted")
        log_guard = LogBreachOperator(task_id="log_guard_breach", tasks=tasks, round_=round_, task="guard")
        decide >> [review, guard]
        review >> overruled >> rollback
        review >> accepted >> promote
        guard >> [rollback, log_guard]
    return review


def _join(task_id: str) -> EmptyOperator:
    """Return a task that is never run: one with a callback, of ``default_args`` perhaps, would be."""
    return EmptyOperator(task_id=task_id, on_execute_callback=None, on_success_callback=None)
