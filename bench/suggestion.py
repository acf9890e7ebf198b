"""``python -m bench suggestion``: a proposal from one simulated week, applied to days that it never saw."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from math import nan
from statistics import median
from typing import TYPE_CHECKING

from bench.figure import Figure
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us
from rollback_budget.model.budget import Budget, Comparison, Severity, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.interval import rate_of
from rollback_budget.suggest.suggestion import Suggestion, suggest_rule
from rollback_budget.suggest.windows import Breaches, Trial, breaches_in

if TYPE_CHECKING:
    from bench.quality.sessions import Counts

TITLE = "suggest: sessions at 30 requests/min/arm, a rule of -2 pp for 20 min, one recorded week each"

#: Requests of a session, their correlation, and over how many minutes they are spread.
CASES = ((10, 0.2, 10), (50, 0.1, 25))
WEEKS, WEEK = 2, 7
#: Windows drawn for a suggestion, and fresh days that its proposal is applied to.
DRAWN, FRESH, HARMED = 500, 400, 100
SEED = 20261128
START = datetime(2026, 10, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)
#: Processes, and fresh days that each is given at a time.
JOBS, CHUNK = len(os.sched_getaffinity(0)), 20


def measure() -> list[Figure]:
    """Suggest from each simulated week, and try old rule and proposal on fresh days."""
    figures = []
    with ProcessPoolExecutor(JOBS) as pool:
        for case, (size, correlation, _) in enumerate(CASES):
            what = f"sessions of {size}, correlation {correlation:g}"
            rules = [rule()]
            for week in range(WEEKS):
                suggestion = suggest_rule(rule(), _week(case, week), days=DRAWN, jobs=JOBS)
                rules.append(proposed(suggestion))
                count = suggestion.false_trips
                figures.append(
                    Figure(f"{what}: week {week + 1} says of the old rule, {count}", 100 * count.rate, "%")
                )
            for number, one in enumerate(rules):
                name = "the old rule" if not number else f"proposal {number} ({_said(one)})"
                trips = _tried(pool, one, case, FRESH, 0.0)
                rate = rate_of(sum(any(after is not None for after in day) for day in trips), len(trips))
                figures.append(
                    Figure(
                        f"{what}: {name} rolls back fresh days without change, {rate}",
                        100 * rate.rate,
                        "%",
                        100 * one.analysis.alpha if number else None,
                    )
                )
                figures.append(_finds(pool, one, case, f"{what}: {name}"))
    return figures


def rule() -> RolloutSpec:
    """Return the rule as a team may have it: for independent requests."""
    return RolloutSpec(
        name="bench",
        release="v42",
        baseline="v41",
        window=timedelta(days=1),
        metrics={"task_success": Metric(kind=MetricKind.PROPORTION)},
        budgets=(
            Budget(
                id="quality.task_success_delta_pp",
                area="quality",
                metric="task_success",
                comparison=Comparison.DELTA_PP,
                threshold=-2.0,
                worse=Worse.LOWER,
                max_duration=timedelta(minutes=20),
                severity=Severity.MAJOR,
            ),
        ),
    )


def proposed(suggestion: Suggestion) -> RolloutSpec:
    """Return the old rule with the proposal pasted in."""
    spec = rule()
    [old], [budget] = spec.budgets, suggestion.budgets
    lines = [line for line in (budget.proposed, budget.fast) if line is not None]
    budgets = tuple(
        old.model_copy(
            update={"id": line.budget, "threshold": line.threshold, "max_duration": line.max_duration}
        )
        for line in lines
    )
    analysis = spec.analysis.model_copy(update={"design_effect": suggestion.proposed_design_effect})
    return spec.model_copy(update={"budgets": budgets, "analysis": analysis})


def _said(spec: RolloutSpec) -> str:
    lines = [f"{one.threshold:g} pp for {one.max_duration // STEP} min" for one in spec.budgets]
    return f"{', '.join(lines)}, design_effect {spec.analysis.design_effect}"


def _week(case: int, week: int) -> list[Sample]:
    arms = _simulated(case, WEEK, (0, week))
    samples = []
    for version, values, counts in (
        ("v42", arms.release, arms.release_n),
        ("v41", arms.baseline, arms.baseline_n),
    ):
        samples += [
            Sample(START + (minute + 1) * STEP, "task_success", version, value, n)
            for minute, (value, n) in enumerate(zip(values, counts, strict=True))
        ]
    return samples


def _simulated(case: int, days: int, names: tuple[int, ...], harm: float = 0.0) -> Arms:
    import numpy as np

    from bench.quality.sessions import Sessions, simulate

    random = np.random.default_rng([SEED, case, *names])
    release, baseline = (simulate(Sessions(*CASES[case]), days, random, harm=worse) for worse in (harm, 0.0))
    return Arms(*_column(*release), *_column(*baseline))


def _column(bad: Counts, requests: Counts) -> tuple[list[float], list[float]]:
    rates = [1.0 - k / n if n else nan for k, n in zip(bad.tolist(), requests.tolist(), strict=True)]
    return rates, [float(n) for n in requests.tolist()]


def _finds(pool: ProcessPoolExecutor, spec: RolloutSpec, case: int, name: str) -> Figure:
    harm = 2.0 * abs(spec.budgets[0].threshold) / 100.0
    found = _tried(pool, spec, case, HARMED, harm)
    times = [min((after for after in day if after is not None), default=spec.window) / STEP for day in found]
    return Figure(f"{name} finds -{100 * harm:g} pp, median", median(times), "min")


def _tried(pool: ProcessPoolExecutor, spec: RolloutSpec, case: int, days: int, harm: float) -> list[Breaches]:
    chunks = [range(first, min(first + CHUNK, days)) for first in range(0, days, CHUNK)]
    return [day for chunk in pool.map(partial(_days, spec, case, harm), chunks) for day in chunk]


def _days(spec: RolloutSpec, case: int, harm: float, days: range) -> list[Breaches]:
    """Fold fresh days, none of which was recorded."""
    start, step = datetime_to_us(START), duration_to_us(STEP)
    times = [start + minute * step for minute in range(1, spec.window // STEP + 1)]
    found = []
    for day in days:
        arms = _simulated(case, 1, (1, day, bool(harm)), harm)

        def arms_of(_: Budget, arms: Arms = arms) -> Arms:
            return arms

        found.append(breaches_in(Trial(spec), arms_of, lambda _: times, start))
    return found
