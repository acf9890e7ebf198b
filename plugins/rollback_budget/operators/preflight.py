"""Before anything is shipped: is the budget complete, do the metrics answer, who serves now?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from rollback_budget.clock import grid_floor, utc_now
from rollback_budget.common.auth_manager_check import commander_problems
from rollback_budget.common.concurrency_check import holders_of, say_holder
from rollback_budget.common.config import open_ledger
from rollback_budget.common.xcom import BASELINE_KEY, SURVEY_KEY, RolloutXcom, Tasks
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError, SourceError, SpecError
from rollback_budget.model.spec import Concurrent, RolloutSpec
from rollback_budget.operators.preflight_target import check_baseline, check_target, target_problems
from rollback_budget.sources.base import SeriesRequest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.engine.preflight_forecast import PreflightForecast
    from rollback_budget.ledger.ledger import Ledger

#: How far back preflight looks for the baseline's traffic.
LOOK_BACK = timedelta(hours=1)

#: How soon a queued rollout looks again.
QUEUED_FOR = timedelta(seconds=30)


class PreflightOperator(BaseOperator):
    """
    Checks that this rollout can be watched and rolled back, and freezes its spec.

    The frozen spec is the XCom value, as JSON; the same run always gets the same one.

    :param budget: path of the budget file.
    :param tasks: the task ids of the rollout.
    :param sends: False when the team's own operators move all traffic, and the target is only read.
    :param ships: False when the team's own operator sends the release its first traffic.
    """

    ui_color = "#f2f2f2"

    def __init__(
        self, *, budget: str | Path, tasks: Tasks, sends: bool = True, ships: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.budget = str(budget)
        self.tasks = tasks
        self.sends = sends
        self.ships = ships

    def execute(self, context: Context) -> str:
        """Return the frozen spec; fails without retries on what no retry mends."""
        from rollback_budget.budget_file import load_budget, preflight_problems, warnings
        from rollback_budget.notifications.dispatch import notify_problems

        exchange = RolloutXcom(self.tasks, context)
        try:
            spec = load_budget(Path(self.budget))
        except SpecError as error:
            raise AirflowFailException(f"the budget cannot be used:\n{error}") from error
        problems = preflight_problems(spec) + commander_problems(spec)
        problems += target_problems(spec, sends=self.sends, ships=self.ships)
        problems += notify_problems(spec)
        if problems:
            raise AirflowFailException("not shipped:\n" + "\n".join(problems))
        for warning in warnings(spec):
            self.log.warning(warning)
        ledger = open_ledger()
        ledger.check()
        self._require_alone(ledger, exchange, spec, claim=False)
        context["ti"].xcom_push(key=SURVEY_KEY, value=self._survey(spec).model_dump(mode="json"))
        check_target(spec, self.log, sends=self.sends)
        context["ti"].xcom_push(key=BASELINE_KEY, value=check_baseline(spec, self.log))
        self._require_alone(ledger, exchange, spec, claim=True)
        frozen = ledger.open_rollout(exchange.key, spec, utc_now())
        if frozen.sha256 != spec.sha256:
            self.log.warning(
                "%s was edited after this run began; the run keeps the budget it began with", self.budget
            )
        self.log.info("frozen: sha256 %s", frozen.sha256)
        for hold in ledger.suspensions_of(exchange.key):
            self.log.warning("%s", hold.suspension)
        return frozen.canonical_json()

    def execute_again(self, context: Context, event: Any) -> str:  # noqa: ARG002
        """Look again whether the rollout before this one has ended."""
        return self.execute(context)

    def _require_alone(
        self, ledger: Ledger, exchange: RolloutXcom, spec: RolloutSpec, *, claim: bool
    ) -> None:
        """Refuse or queue this rollout while another one of its service is under way."""
        holders = holders_of(ledger, exchange.key, spec, exchange.context["ti"], self.log, claim=claim)
        if not holders:
            return
        said = "; ".join(map(say_holder, holders))
        if spec.concurrent is Concurrent.REFUSE:
            raise AirflowFailException(
                f"not shipped: another rollout of {spec.service} is under way: {said}. Wait for its end and"
                " trigger this one again, mark its run as failed if it is dead, or write `concurrent: queue`"
            )
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.log.info("queued behind another rollout of %s: %s", spec.service, said)
        self.defer(trigger=TimeDeltaTrigger(QUEUED_FOR), method_name="execute_again")

    def _survey(self, spec: RolloutSpec) -> PreflightForecast:
        """Ask every metric for both versions over the last hour, and say what this watch can expect."""
        from rollback_budget.engine.forecast_table import survey_lines, warning_lines
        from rollback_budget.engine.preflight_forecast import survey_of
        from rollback_budget.hooks.metric_source import open_source

        end = grid_floor(utc_now() - spec.watch.settle, spec.watch.step)
        request = SeriesRequest(
            series=tuple(sorted({budget.series for budget in spec.budgets})),
            release=spec.release,
            baseline=spec.baseline,
            start=end - max(LOOK_BACK, spec.watch.step),
            end=end,
            step=spec.watch.step,
        )

        async def ask() -> Sequence[Sample]:
            source = await open_source(spec)
            return await source.fetch(request)

        try:
            survey = survey_of(spec, asyncio.run(ask()), start=request.start, end=end)
        except SourceError as error:
            if error.transient:
                raise
            raise AirflowFailException(f"not shipped: {error}") from error
        except SeriesError as error:
            raise AirflowFailException(f"not shipped: {error}") from error
        self.log.info("%s", "\n".join(survey_lines(survey)))
        for line in warning_lines(survey):
            self.log.warning("%s", line)
        return survey
