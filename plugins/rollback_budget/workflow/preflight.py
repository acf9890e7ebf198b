"""Before anything is shipped: is the budget complete, do the metrics answer, who serves now?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from rollback_budget.engine.sample import SeriesRequest
from rollback_budget.errors import SourceError, SpecError
from rollback_budget.spec.model import RolloutSpec
from rollback_budget.workflow.clock import grid_floor, utc_now
from rollback_budget.workflow.exchange import Exchange, Tasks
from rollback_budget.workflow.settings import open_ledger

if TYPE_CHECKING:
    from airflow.sdk import Context

#: How far back preflight looks for the baseline's traffic.
LOOK_BACK = timedelta(hours=1)


class PreflightOperator(BaseOperator):
    """
    Checks that this rollout can be watched and rolled back, and freezes its spec.

    The frozen spec is the XCom value, as JSON; the same run always gets the same one.

    :param budget: path of the budget file.
    :param tasks: the task ids of the rollout.
    :param sends: False when the team's own operators move all traffic, and the target is only read.
    """

    ui_color = "#f2f2f2"

    def __init__(self, *, budget: str | Path, tasks: Tasks, sends: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.budget = str(budget)
        self.tasks = tasks
        self.sends = sends

    def execute(self, context: Context) -> str:
        """Return the frozen spec; fails without retries on what no retry mends."""
        from rollback_budget.spec import load_budget, preflight_problems, warnings

        exchange = Exchange(self.tasks, context)
        try:
            spec = load_budget(Path(self.budget))
        except SpecError as error:
            raise AirflowFailException(f"the budget cannot be used:\n{error}") from error
        problems = preflight_problems(spec)
        if self.sends and spec.target is not None and spec.target.write is None:
            problems.append("target.write is missing: say how the traffic is set")
        if problems:
            raise AirflowFailException("not shipped:\n" + "\n".join(problems))
        for warning in warnings(spec):
            self.log.warning(warning)
        ledger = open_ledger()
        ledger.check()
        self._check_metrics(spec)
        self._check_target(spec)
        frozen = ledger.open_rollout(exchange.key, spec, utc_now())
        if frozen.sha256 != spec.sha256:
            self.log.warning(
                "%s was edited after this run began; the run keeps the budget it began with", self.budget
            )
        self.log.info("frozen: sha256 %s", frozen.sha256)
        return frozen.canonical_json()

    def _check_metrics(self, spec: RolloutSpec) -> None:
        from rollback_budget.workflow.connections import open_source

        end = grid_floor(utc_now() - spec.watch.settle, spec.watch.step)
        request = SeriesRequest(
            series=tuple(sorted({budget.series for budget in spec.budgets})),
            release=spec.release,
            baseline=spec.baseline,
            start=end - max(LOOK_BACK, spec.watch.step),
            end=end,
            step=spec.watch.step,
        )

        async def ask() -> set[tuple[str, str]]:
            source = await open_source(spec)
            return {(sample.series, sample.version) for sample in await source.fetch(request)}

        try:
            answered = asyncio.run(ask())
        except SourceError as error:
            if error.transient:
                raise
            raise AirflowFailException(f"not shipped: {error}") from error
        for budget in spec.budgets:
            if budget.comparison.needs_baseline and (budget.series, spec.baseline) not in answered:
                self.log.warning(
                    "%s: the metric source had nothing for %s of %s in the last hour; "
                    "looks at this budget are unknown until it has",
                    budget.id,
                    budget.series,
                    spec.baseline,
                )

    def _check_target(self, spec: RolloutSpec) -> None:
        from rollback_budget.workflow.connections import open_target

        serving = open_target(spec).read()
        self.log.info("serving now: %s", serving)
        if serving.share(spec.baseline) == 0 and serving.share(spec.release) == 0:
            raise AirflowFailException(
                f"not shipped: neither {spec.baseline} nor {spec.release} serves now, but {serving}; "
                "a rollback would go to a version that nobody uses. Correct `baseline:` in the budget"
            )
