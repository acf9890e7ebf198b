"""Before anything is shipped: is the budget complete, do the metrics answer, does a rollback work?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from rollback_budget.clock import Log, utc_now
from rollback_budget.common.concurrency_check import holders_of, say_holder
from rollback_budget.common.config import open_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import QUICK_RETRIES
from rollback_budget.common.xcom import BASELINE_KEY, SURVEY_KEY, RolloutXcom, Tasks
from rollback_budget.engine.decision_policy import rounds_of
from rollback_budget.exceptions import SeriesError, SourceError, SpecError, TargetError
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import longest_shift
from rollback_budget.model.spec import Concurrent, RolloutSpec
from rollback_budget.operators.queue_warnings import queue_warnings
from rollback_budget.registry import conflicts
from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor
from rollback_budget.targets.base import Serving, target_class
from rollback_budget.targets.verification import STEPS_OF_HEALTH, baseline_levels, baseline_problems

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.engine.preflight_forecast import PreflightForecast
    from rollback_budget.ledger.ledger import Ledger

#: A watch with fewer retries may not outlive a day of restarts and deployments.
FEWEST_RETRIES = 2

#: A decision or a rollback that waits longer between two tries leaves harm in place.
LONGEST_RETRY_DELAY = timedelta(minutes=1)

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

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#f2f2f2"

    def __init__(
        self, *, budget: str | Path, tasks: Tasks, sends: bool = True, ships: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.budget = str(budget)
        self.tasks = tasks
        self.sends = sends
        self.ships = ships

    def execute(self, context: Context) -> str:
        """Return the frozen spec; fails without retries on what no retry fixes."""
        from rollback_budget.budget_file import load_budget, preflight_problems, warnings
        from rollback_budget.notifications.dispatch import notify_problems

        xcom = RolloutXcom(self.tasks, context)
        try:
            spec = load_budget(Path(self.budget))
        except SpecError as error:
            raise AirflowFailException(f"the budget cannot be used:\n{error}") from error
        problems = preflight_problems(spec) + commander_problems(spec)
        problems += target_problems(spec, sends=self.sends, ships=self.ships)
        problems += notify_problems(spec)
        if problems:
            raise AirflowFailException("not shipped:\n" + "\n".join(problems))
        dag = self.get_dag()
        limits = [*limit_warnings(spec, dag, self.tasks), *queue_warnings(dag, self.tasks)]
        for warning in [*conflicts(), *warnings(spec), *limits]:
            self.log.warning(warning)
        ledger = open_ledger()
        ledger.check()
        self._require_alone(ledger, xcom, spec, claim=False)
        context["ti"].xcom_push(key=SURVEY_KEY, value=self._survey(spec).model_dump(mode="json"))
        check_target(spec, self.log, sends=self.sends)
        context["ti"].xcom_push(key=BASELINE_KEY, value=check_baseline(spec, self.log))
        self._require_alone(ledger, xcom, spec, claim=True)
        frozen = ledger.rollouts.open(xcom.key, spec, utc_now())
        if frozen.sha256 != spec.sha256:
            self.log.warning(
                "%s was edited after this run began; the run keeps the budget it began with", self.budget
            )
        self.log.info("frozen: sha256 %s", frozen.sha256)
        for hold in ledger.suspensions.of(xcom.key):
            self.log.warning("%s", hold.suspension)
        return frozen.canonical_json()

    def execute_again(self, context: Context, event: Any) -> str:  # noqa: ARG002
        """Look again whether the rollout before this one has ended."""
        return self.execute(context)

    def _require_alone(self, ledger: Ledger, xcom: RolloutXcom, spec: RolloutSpec, *, claim: bool) -> None:
        """Refuse or queue this rollout while another one of its service is under way."""
        holders = holders_of(ledger, xcom.key, spec, xcom.context["ti"], self.log, claim=claim)
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
        """Query every metric for both versions over the last hour, and say what this watch can expect."""
        from rollback_budget.engine.forecast_table import error_lines, forecast_lines, warning_lines
        from rollback_budget.engine.preflight_forecast import LOOK_BACK, forecast_watch
        from rollback_budget.hooks.metric_source import survey_once
        from rollback_budget.hooks.recording import read_latest
        from rollback_budget.recording.plan import latest_of, plan_of_latest

        plan = plan_of_latest(spec, LOOK_BACK, now=utc_now())
        start, end = latest_of(spec, plan)
        try:
            samples = asyncio.run(read_latest(spec, plan))
            forecast = forecast_watch(spec, samples, start=start, end=end)
        except SourceError as error:
            if error.transient:
                raise
            raise AirflowFailException(f"not shipped: {error}") from error
        except SeriesError as error:
            raise AirflowFailException(f"not shipped: {error}") from error
        self.log.info("%s", "\n".join(forecast_lines(forecast)))
        requests = plan.requests(plan.start, plan.end)
        for line in (*warning_lines(forecast), *asyncio.run(survey_once(spec, *requests))):
            self.log.warning("%s", line)
        if errors := error_lines(forecast):
            raise AirflowFailException(f"not shipped: {'; '.join(errors)}")
        return forecast


def limit_warnings(spec: RolloutSpec, dag: DAG | None, tasks: Tasks) -> list[str]:
    """Return one line for every limit of Airflow's that may end the rollout before its window is watched.

    :param dag: the DAG of this rollout's tasks; None when it is not known, then nothing is warned of.
    """
    if dag is None:
        return []
    needed = spec.window + longest_shift(spec) + spec.watch.settle + spec.watch.poll
    window, enough = say_duration(spec.window), say_duration(needed)
    found = []
    for round_ in range(1, rounds_of(spec) + 1):
        watch = dag.task_dict.get(tasks.in_round(round_, "watch"))
        if not isinstance(watch, RollbackBudgetSensor):
            continue
        limits = {"execution_timeout": watch.execution_timeout}
        if not watch.deferrable:
            limits["timeout"] = timedelta(seconds=watch.timeout)
        found += [
            f"{watch.task_id} has {name}={say_duration(limit)}, but the window is {window}: Airflow fails the"
            f" watch after {say_duration(limit)}, and a failed watch counts as blind. Remove {name} (look"
            f" into default_args, too) or set it to at least {enough}"
            for name, limit in limits.items()
            if limit is not None and limit < needed
        ]
        retries = watch.retries or 0
        if retries < FEWEST_RETRIES:
            found.append(
                f"{watch.task_id} has retries={retries}: a restart of a scheduler or a triggerer can"
                f" cost one, and a failed watch counts as blind. Set retries to at least {FEWEST_RETRIES}"
                " (look into default_args, too)"
            )
    found += _weak_retries(spec, dag, tasks)
    limit = getattr(dag, "dagrun_timeout", None)
    if limit is not None and limit < needed:
        found.append(
            f"{dag.dag_id} has dagrun_timeout={say_duration(limit)}, but the window is {window}: Airflow"
            f" fails the run after {say_duration(limit)}, and then nothing rolls back. Remove dagrun_timeout"
            f" or set it to more than {enough}"
        )
    return found


def _weak_retries(spec: RolloutSpec, dag: DAG, tasks: Tasks) -> list[str]:
    """Return one line for each setting of retries with which a restart may cost or delay a rollback."""
    rounds = range(1, rounds_of(spec) + 1)
    names = [tasks.in_round(round_, name) for round_ in rounds for name in ("guard", "decide", "review")]
    names += [tasks.id(name) for name in ("rollback", "verdict", "record_rollback")]
    ours = [
        task
        for task in (dag.task_dict.get(name) for name in names)
        if isinstance(task, BaseOperator) and type(task).__module__.startswith("rollback_budget.")
    ]
    few = [task for task in ours if (task.retries or 0) < FEWEST_RETRIES]
    slow = [task for task in ours if task.retries and task.retry_delay > LONGEST_RETRY_DELAY]
    found = []
    if few:
        found.append(
            f"{_listed(few)} {'has' if len(few) == 1 else 'have'} fewer than {FEWEST_RETRIES} retries: a"
            " restart of a scheduler or a worker can cost one, and then nothing rolls back. Set retries to at"
            f" least {FEWEST_RETRIES} (look into default_args, too)"
        )
    if slow:
        longest = max(task.retry_delay for task in slow)
        found.append(
            f"{_listed(slow)} {'has' if len(slow) == 1 else 'have'} a retry_delay of up to"
            f" {say_duration(longest)}: after a failed try a rollback waits that long. Set retry_delay to"
            " seconds (look into default_args, too)"
        )
    return found


def _listed(tasks: Sequence[BaseOperator]) -> str:
    *others, last = (task.task_id for task in tasks)
    return f"{', '.join(others)} and {last}" if others else last


def commander_problems(spec: RolloutSpec) -> list[str]:
    """Return one line for each commander whom the deployment's auth manager could never let answer."""
    manager = conf.get("core", "auth_manager", fallback="")
    if not manager.endswith("FabAuthManager"):
        return []
    return [
        f"incident_commander {user.id!r}: users of {manager.rsplit('.', 1)[-1]} are known by their number; "
        f'`airflow users list` says which is theirs, write {{id: "3", name: {user.name}}}'
        for user in spec.incident_commanders
        if not user.id.isdigit()
    ]


def target_problems(spec: RolloutSpec, *, sends: bool, ships: bool) -> list[str]:
    """Return what the budget's target lacks.

    :param sends: whether any traffic is moved by it.
    :param ships: whether the release's first traffic is.
    """
    problems: list[str] = []
    if sends and spec.target is not None:
        problems += target_class(spec.target.type).problems(spec)
    if not ships and spec.target is not None and spec.target.stages:
        problems.append("target.stages is of no use: the team's own `ship` moves the traffic; remove it")
    return problems


def check_target(spec: RolloutSpec, log: Log, *, sends: bool) -> Serving:
    """Dry-run the rollback and return who serves now; fails what would not be rolled back."""
    from rollback_budget.hooks.traffic_target import open_target

    target = open_target(spec)
    serving = target.read()
    log.info("serving now: %s", serving)
    if serving.share(spec.baseline) == 0 and serving.share(spec.release) == 0:
        raise AirflowFailException(
            f"not shipped: neither {spec.baseline} nor {spec.release} serves now, but {serving}; "
            "a rollback would go to a version that gets no traffic. Correct `baseline:` in the budget"
        )
    if serving.share(spec.release) > 0:
        log.warning("%s gets traffic already, before it is shipped: %s", spec.release, serving)
    if sends:
        try:
            steps = target.rehearse(serving)
        except TargetError as error:
            raise TargetError(f"not shipped, because a rollback would fail: {error}") from error
        for line in steps:
            log.info("the rollback path: %s", line)
    return serving


def check_baseline(spec: RolloutSpec, log: Log) -> dict[str, float]:
    """Return the baseline's values of now, and say where it is itself beyond a budget."""
    from rollback_budget.hooks.recording import read_latest
    from rollback_budget.recording.plan import plan_of_latest

    plan = plan_of_latest(spec, STEPS_OF_HEALTH * spec.watch.step, now=utc_now(), fewest_slow=STEPS_OF_HEALTH)
    start, end = plan.start, plan.end
    try:
        samples = asyncio.run(read_latest(spec, plan))
        levels = baseline_levels(spec, samples, start, end)
        problems = baseline_problems(spec, samples, start, end, {})
    except (SourceError, SeriesError) as error:
        log.warning("whether %s is healthy cannot be known: %s", spec.baseline, error)
        return {}
    for problem in problems:
        log.warning("the baseline is itself unhealthy, and a rollback would go there: %s", problem)
    return levels
