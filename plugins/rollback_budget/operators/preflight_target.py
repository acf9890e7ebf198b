"""Before anything is shipped: who serves now, and is there a way back?"""

from __future__ import annotations

import asyncio

from airflow.sdk.exceptions import AirflowFailException

from rollback_budget.clock import Log, grid_floor, utc_now
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError, SourceError, TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpTarget
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.targets.base import Serving
from rollback_budget.targets.verification import STEPS_OF_HEALTH, baseline_levels, baseline_troubles


def target_problems(spec: RolloutSpec, *, sends: bool, ships: bool) -> list[str]:
    """Return what the budget's target lacks.

    :param sends: whether any traffic is moved by it.
    :param ships: whether the release's first traffic is.
    """
    problems = []
    if sends and isinstance(spec.target, HttpTarget) and spec.target.write is None:
        problems.append("target.write is missing: say how the traffic is set")
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
            "a rollback would go to a version that nobody uses. Correct `baseline:` in the budget"
        )
    if serving.share(spec.release) > 0:
        log.warning("%s gets traffic already, before it is shipped: %s", spec.release, serving)
    if sends:
        try:
            told = target.rehearse(serving)
        except TargetError as error:
            raise TargetError(f"not shipped, because a rollback would fail: {error}") from error
        for line in told:
            log.info("the way back: %s", line)
    return serving


def check_baseline(spec: RolloutSpec, log: Log) -> dict[str, float]:
    """Return the baseline's values of now, and say where it is itself beyond a budget."""
    end = grid_floor(utc_now() - spec.watch.settle, spec.watch.step)
    start = end - STEPS_OF_HEALTH * spec.watch.step
    series = tuple(sorted({budget.series for budget in spec.budgets}))

    async def ask() -> list[Sample]:
        from rollback_budget.hooks.metric_source import open_source

        source = await open_source(spec)
        request = SeriesRequest(series, spec.release, spec.baseline, start, end, spec.watch.step)
        return list(await source.fetch(request))

    try:
        samples = asyncio.run(ask())
        levels = baseline_levels(spec, samples, start, end)
        troubles = baseline_troubles(spec, samples, start, end, {})
    except (SourceError, SeriesError) as error:
        log.warning("whether %s is healthy cannot be known: %s", spec.baseline, error)
        return {}
    for trouble in troubles:
        log.warning("the baseline is itself unhealthy, and a rollback would go there: %s", trouble)
    return levels
