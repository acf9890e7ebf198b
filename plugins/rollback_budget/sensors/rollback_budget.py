"""The sensor that watches a rollout, in the triggerer or in a worker, with the same result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from rollback_budget.clock import utc_now
from rollback_budget.common.retries import WATCH_RETRIES, with_defaults
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.watch.watch_plan import WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.watch.watcher import Watcher

#: On top of the window: what a triggerer that was unavailable for a while may need to catch up.
CATCH_UP_TIME = timedelta(hours=1)


class RollbackBudgetSensor(BaseSensorOperator):
    """
    Watches a release until a budget is breached, the watch is blind, or the window is over.

    Succeeds in each of these cases: the verdict is its XCom value (an
    :class:`~rollback_budget.engine.evaluation.Evaluation` as JSON), never an exception.

    :param budget: path of the budget file (templated).
    :param window_start: when the release got its first traffic, ISO 8601 with offset (templated). By
        default the start of the DAG run.
    :param deferrable: wait in the triggerer, without a worker slot. By default what
        ``[operators] default_deferrable`` says.
    """

    template_fields: Sequence[str] = ("budget", "window_start")
    ui_color = "#e8f1fd"

    def __init__(
        self,
        *,
        budget: str | Path | None = None,
        window_start: str | datetime | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**with_defaults(kwargs, WATCH_RETRIES))
        # Anything but a path is kept as it is: a template, or the output of another task.
        self.budget = str(budget) if isinstance(budget, Path) else budget
        self.window_start = window_start
        self.deferrable = deferrable
        self._watcher: Watcher | None = None
        self._runner: asyncio.Runner | None = None

    def plan(self, context: Context) -> WatchPlan:
        """Return what to watch."""
        from rollback_budget.budget_file import load_budget

        if self.budget is None:
            raise RollbackBudgetError("RollbackBudgetSensor needs budget=, the path of a budget file")
        spec = load_budget(Path(self.budget))
        start = self.window_start or context["dag_run"].start_date
        if isinstance(start, str):
            start = datetime.fromisoformat(start)
        assert isinstance(start, datetime)
        if start.tzinfo is None:
            raise RollbackBudgetError(
                f"window_start {start} has no time zone; write 2026-01-31T09:00:00+00:00"
            )
        return WatchPlan(spec=spec, window_start=start, window_end=start + spec.window)

    def execute(self, context: Context) -> Any:
        """Defer until the verdict, or watch right here."""
        if not self.deferrable:
            return super().execute(context)
        from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger

        plan = self.plan(context)
        self.log.info(
            "watching %s against %s from %s to %s",
            plan.spec.release,
            plan.spec.baseline,
            plan.window_start,
            plan.window_end,
        )
        now = utc_now()
        self.defer(
            trigger=RollbackBudgetTrigger(plan=plan.model_dump_json(), deferred_at=now.isoformat()),
            method_name="execute_complete",
            timeout=max(plan.latest_end - now, timedelta(0)) + CATCH_UP_TIME,
        )
        return None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the verdict that the trigger brought."""
        return self.conclude(context, event["evaluation"], event)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, without the triggerer.

        All pokes of a poking sensor share what the trigger's watches share: the open source, and for how long
        its backend limits the rate. A rescheduled poke is a process of its own: it queries a rate-limited
        backend once, and keeps nothing.
        """
        from rollback_budget.common.watch_process import (
            process_look_writer,
            process_suspension_cache,
            seen_until,
        )
        from rollback_budget.hooks.metric_source import open_shared_source
        from rollback_budget.watch.watcher import Watcher

        if self._watcher is None or self._runner is None:
            plan = self.plan(context)
            self._watcher = Watcher(
                plan,
                open_shared_source,
                log=self.log,
                suspensions=process_suspension_cache(),
                looks=process_look_writer(),
                seen_until=(
                    partial(seen_until, plan.rollout, plan.window_start, plan.spec)
                    if self.reschedule and plan.rollout
                    else None
                ),
            )
            self._runner = asyncio.Runner()
        evaluation = self._runner.run(self._watcher.look())
        goes_on = evaluation is None and not self._watcher.is_over
        acted: dict[str, Any] = {}
        if evaluation is not None:
            from rollback_budget.triggers.on_verdict import act_on_verdict

            acted = self._runner.run(act_on_verdict(self._watcher.plan, evaluation, self.log))
        if self.reschedule or not goes_on:
            self._close()
        if goes_on:
            return PokeReturnValue(is_done=False)
        document = None if evaluation is None else evaluation.model_dump(mode="json")
        return PokeReturnValue(is_done=True, xcom_value=self.conclude(context, document, acted))

    def _close(self) -> None:
        """Close what the looks of this process shared."""
        from rollback_budget.hooks.http import close_shared_session

        assert self._runner is not None
        with self._runner as runner:
            runner.run(close_shared_session())
        self._runner = None

    def conclude(
        self,
        context: Context,  # noqa: ARG002
        document: dict[str, Any] | None,
        acted: Mapping[str, Any],  # noqa: ARG002
    ) -> Any:
        """Log the verdict and return it.

        :param acted: what was done for it already; see
            :func:`~rollback_budget.triggers.on_verdict.act_on_verdict`.
        """
        assert document is not None
        evaluation = Evaluation.model_validate(document)
        self.log.info("%s: %s", evaluation.verdict.value, evaluation.sentence)
        return document

    def _get_next_poke_interval(self, *_args: Any) -> float:
        # The one place where Airflow asks a sensor when to look next; without it polls would miss the grid.
        assert self._watcher is not None
        return self._watcher.seconds_to_next_look()
