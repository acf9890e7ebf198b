"""The watch and the guard of one round of a rollout."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.common.ledger_sync import final_if_known
from rollback_budget.common.retries import with_defaults
from rollback_budget.common.xcom import DEADLINE_KEY, RolloutXcom, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor
from rollback_budget.watch.watch_plan import Role, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchSensor(RollbackBudgetSensor):
    """
    Watches for the rest of the window, from what preflight froze and ship shipped.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.

    Unless ``deferrable`` says otherwise it waits in the triggerer, whatever ``default_deferrable`` of Airflow
    says: a rollout is watched for a day, and must not take a worker's slot for it.
    """

    operator_extra_links = ROLLOUT_LINKS

    def __init__(self, *, tasks: Tasks, round_: int, **kwargs: Any) -> None:
        super().__init__(**with_defaults(kwargs, {"deferrable": True}))
        self.tasks = tasks
        self.round_ = round_

    def plan(self, context: Context) -> WatchPlan:
        """Return the rest of the window, with what the commander overrode so far."""
        xcom = RolloutXcom(self.tasks, context)
        final = final_if_known(xcom.key, self.log)
        if final is not None:
            raise AirflowSkipException(f"nothing to watch: {final}")
        shipment = xcom.shipment()
        if shipment is None:
            raise AirflowSkipException("nothing was shipped")
        return WatchPlan(
            spec=xcom.spec(),
            window_start=shipment.window_start,
            window_end=shipment.window_end,
            round_=self.round_,
            overrides=xcom.overrides(before=self.round_),
            rollout=xcom.key,
        )

    def conclude(self, context: Context, document: dict[str, Any] | None) -> Any:
        """Return the verdict; a rollout that was decided meanwhile, by an earlier guard, needs none."""
        if document is None:
            raise AirflowSkipException("this rollout has ended without this watch")
        return super().conclude(context, document)


class GuardSensor(WatchSensor):
    """
    Watches tier A while the commander thinks; succeeds on a breach, and is skipped when nothing happened.

    Ends with the review: at its deadline, or once it is answered.
    """

    ui_color = "#fde8e8"

    def plan(self, context: Context) -> WatchPlan:
        """Return the watch of this round, for tier A alone and no longer than the review."""
        plan = super().plan(context)
        xcom = RolloutXcom(self.tasks, context)
        deadline = xcom.pull(self.tasks.in_round(self.round_, "decide"), DEADLINE_KEY)
        until = datetime.fromisoformat(deadline) + plan.spec.watch.poll
        return plan.model_copy(update={"role": Role.GUARD, "until": until})

    def conclude(self, context: Context, document: dict[str, Any] | None) -> Any:
        """Return the breach, or skip what hangs on one."""
        if document is None or not document["breaches"]:
            raise AirflowSkipException("no tier A breach during the review")
        return super().conclude(context, document)
