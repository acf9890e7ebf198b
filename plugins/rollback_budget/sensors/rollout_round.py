"""The watch and the guard of one round of a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.common.ledger_sync import final_if_known, verdict_of_rollback
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.xcom import ASKED_UNTIL_KEY, DEADLINE_KEY, REQUEST_KEY, RolloutXcom, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.watch.watch_plan import Role, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchSensor(RollbackBudgetSensor):
    """
    Watches for the rest of the window, from what preflight froze and ship shipped.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.
    :param sends: False when a team's own operator puts the baseline back; then nothing is requested from
        where the verdict is known.

    Unless ``deferrable`` says otherwise it waits in the triggerer, whatever ``default_deferrable`` of Airflow
    says: a rollout is watched for a day, and must not take a worker's slot for it.
    """

    operator_extra_links = ROLLOUT_LINKS

    kind = Role.WATCH

    def __init__(self, *, tasks: Tasks, round_: int, sends: bool = True, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, {"deferrable": True}))
        self.tasks = tasks
        self.round_ = round_
        self.sends = sends

    def execute(self, context: Context) -> Any:
        """Wait for the verdict, unless an earlier try has come to one and acted on it."""
        xcom = RolloutXcom(self.tasks, context)
        verdict = verdict_of_rollback(xcom.key, self.round_, self.kind.value, self.log)
        if verdict is None:
            return super().execute(context)
        self.log.info("this verdict led to a rollback that is not settled yet")
        return self.conclude(context, verdict.model_dump(mode="json"), {})

    def plan(self, context: Context) -> WatchPlan:
        """Return the rest of the window, with what the commander overrode so far."""
        xcom = RolloutXcom(self.tasks, context)
        final = final_if_known(xcom.key, self.log)
        if final is not None:
            raise AirflowSkipException(f"nothing to watch: {final}")
        shipment = xcom.shipment()
        if shipment is None:
            raise AirflowSkipException("nothing was shipped")
        spec = xcom.spec()
        return WatchPlan(
            spec=spec,
            window_start=shipment.window_start,
            window_end=shipment.window_end,
            round_=self.round_,
            overrides=xcom.overrides(before=self.round_),
            rollout=xcom.key,
            terms=rollback_terms(spec, shipment.shares) if self.sends else None,
        )

    def conclude(self, context: Context, document: dict[str, Any] | None, acted: Mapping[str, Any]) -> Any:
        """Return the verdict, and leave what was done for it; a rollout that ended without it needs none."""
        if document is None:
            xcom = RolloutXcom(self.tasks, context)
            verdict = verdict_of_rollback(xcom.key, self.round_, self.kind.value, self.log)
            if verdict is None:
                raise AirflowSkipException("this rollout has ended without this watch")
            document = verdict.model_dump(mode="json")
        for key, name in ((REQUEST_KEY, "rollback"), (ASKED_UNTIL_KEY, "deadline")):
            if acted.get(name) is not None:
                context["ti"].xcom_push(key=key, value=acted[name])
        return super().conclude(context, document, acted)


class GuardSensor(WatchSensor):
    """
    Watches tier A while the commander thinks; succeeds on a breach, and is skipped when nothing happened.

    Ends with the review: at its deadline, or once it is answered.
    """

    ui_color = "#fde8e8"
    kind = Role.GUARD

    def plan(self, context: Context) -> WatchPlan:
        """Return the watch of this round, for tier A alone and no longer than the review."""
        plan = super().plan(context)
        xcom = RolloutXcom(self.tasks, context)
        deadline = xcom.pull(self.tasks.in_round(self.round_, "decide"), DEADLINE_KEY)
        until = datetime.fromisoformat(deadline) + plan.spec.watch.poll
        return plan.model_copy(update={"role": Role.GUARD, "until": until})

    def conclude(self, context: Context, document: dict[str, Any] | None, acted: Mapping[str, Any]) -> Any:
        """Return the breach, or skip what hangs on one."""
        if document is not None and not document["breaches"]:
            raise AirflowSkipException("no tier A breach during the review")
        return super().conclude(context, document, acted)
