"""The sensor that watches a rollout; deferrable by default, the same evaluation path without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from rollback_budget.clock import utc_now
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.watch.watch_plan import WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.watch.watcher import Watcher

#: On top of the window: what a triggerer that was away for a while may need to catch up.
PATIENCE = timedelta(hours=1)


class RollbackBudgetSensor(BaseSensorOperator):
    """
    Watches a release until a budget is breached, the watch is blind, or the window is over.

    Succeeds in each of these cases: the verdict is its XCom value (an
    :class:`~rollback_budget.engine.evaluation.Evaluation` as JSON), never an exception.

    :param budget: path of the budget file.
    :param window_start: when the release got its first traffic, ISO 8601 with offset (templated). By
        default the start of the DAG run.
    :param deferrable: wait in the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = ("window_start",)
    ui_color = "#e8f1fd"

    def __init__(
        self,
        *,
        budget: str | Path | None = None,
        window_start: str | datetime | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retries", 10)
        kwargs.setdefault("retry_delay", timedelta(seconds=5))
        super().__init__(**kwargs)
        self.budget = None if budget is None else str(budget)
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
            timeout=max(plan.latest_end - now, timedelta(0)) + PATIENCE,
        )
        return None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the verdict that the trigger brought."""
        return self.conclude(context, event["evaluation"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, without the triggerer."""
        from rollback_budget.common.watch_process import process_look_writer, process_suspension_cache
        from rollback_budget.hooks.metric_source import open_source
        from rollback_budget.watch.watcher import Watcher

        if self._watcher is None:
            self._watcher = Watcher(
                self.plan(context),
                open_source,
                log=self.log,
                suspensions=process_suspension_cache(),
                looks=process_look_writer(),
            )
            self._runner = asyncio.Runner()
        assert self._runner is not None
        evaluation = self._runner.run(self._watcher.look())
        if evaluation is None and not self._watcher.is_over:
            return PokeReturnValue(is_done=False)
        document = None if evaluation is None else evaluation.model_dump(mode="json")
        return PokeReturnValue(is_done=True, xcom_value=self.conclude(context, document))

    def conclude(self, context: Context, document: dict[str, Any] | None) -> Any:  # noqa: ARG002
        """Log the verdict and return it."""
        assert document is not None
        evaluation = Evaluation.model_validate(document)
        self.log.info("%s: %s", evaluation.verdict.value, evaluation.sentence)
        return document

    def _get_next_poke_interval(self, *_args: Any) -> float:
        assert self._watcher is not None
        return self._watcher.seconds_to_next_look()
