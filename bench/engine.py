"""The engine: a day's replay, one poll, and what a watch keeps in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

from bench.figure import Figure, best_of
from rollback_budget.engine import Fold, Sample, Window, evaluate, frame_of
from rollback_budget.engine.eprocess import EProcess
from rollback_budget.engine.null_boundary import MULTIPLES, Counts, NullBoundary, log_evidence
from rollback_budget.model.budget import Budget, Comparison, Method, Severity, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec

TITLE = "engine: 4 budgets, one look a minute"

START = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
RELEASE, BASELINE = "model-v42", "model-v41"
#: Half of -2 % of a success rate.
LINE = NullBoundary(0.01, 0.99)
#: Metric, comparison, threshold, minutes, and a level that stays within the budget.
RULES = (
    ("task_success", Comparison.DELTA_PCT, -2.0, 20, 0.9),
    ("high_severity_incidents", Comparison.INCREASE, 0.0, 0, 0.0),
    ("p95", Comparison.DELTA_PCT, 15.0, 30, 1.6),
    ("human_handoff", Comparison.DELTA_PCT, 8.0, 20, 0.1),
)


def measure() -> list[Figure]:
    """Measure with a release that keeps its budgets: nothing ends early."""
    spec, window = rollout(days=1), Window(START, START + timedelta(days=1))
    samples = [sample for minute in range(1, DAY + 1) for sample in bucket(minute)]
    frame = frame_of(spec, samples, start=window.start, end=window.end)
    polls = [(minute, list(bucket(minute))) for minute in range(1, DAY + 1)]

    def follow() -> None:
        fold = Fold(spec, window)
        for minute, new in polls:
            end = START + minute * MINUTE
            fold.fold(frame_of(spec, new, start=end - MINUTE, end=end))

    replay = best_of(10, lambda: Fold(spec, window).fold(frame))
    laid_out = best_of(10, lambda: frame_of(spec, samples, start=window.start, end=window.end))
    in_all = best_of(10, lambda: evaluate(spec, samples, start=START))
    poll = best_of(5, follow) / DAY / len(RULES)
    kept_1, kept_10 = kept_after(1), kept_after(10)
    weighed, day = counted(), list(rates())
    counts = frame_of(weighed, day, start=window.start, end=window.end)
    by_evidence = best_of(10, lambda: Fold(weighed, window).fold(counts))
    block = best_of(500, lambda: log_evidence(Counts(28, 300, 31, 300), 0.1, LINE, 0.018))
    process = EProcess(alpha=0.0125, blocks=4, in_window=288, alternatives=len(MULTIPLES))
    indices = count()
    update = block + best_of(500, lambda: process.update(next(indices), [0.1, 0.2, 0.3, 0.1, -0.4]))
    return [
        Figure("replay of 24 h, folding, by threshold", replay * 1e3, "ms", limit=10),
        Figure("replay of 24 h, laying the samples out in a frame", laid_out * 1e3, "ms"),
        Figure("replay of 24 h, from samples to the evaluation", in_all * 1e3, "ms"),
        Figure("one poll, per budget, from samples to the verdict", poll * 1e6, "µs", limit=50),
        Figure("replay of 24 h, 4 budgets by sequential", by_evidence * 1e3, "ms", limit=50),
        Figure("one block of evidence, per budget", update * 1e6, "µs", limit=200),
        Figure("memory of a watch after 1 day", kept_1 / 1024, "KiB"),
        Figure("memory of a watch after 10 days", kept_10 / 1024, "KiB", limit=round(1.5 * kept_1 / 1024, 1)),
    ]


def rollout(*, days: int) -> RolloutSpec:
    """Return the rule of the design's minimal file, for a window of ``days``, decided by the values."""
    budgets = tuple(
        Budget(
            id=f"{metric}.{metric}_{comparison.value}",
            area=metric,
            metric=metric,
            comparison=comparison,
            threshold=threshold,
            worse=Worse.LOWER if threshold < 0 else Worse.HIGHER,
            max_duration=minutes * MINUTE,
            tier=Tier.B if minutes else Tier.A,
            severity=Severity.MAJOR,
            method=Method.THRESHOLD,
        )
        for metric, comparison, threshold, minutes, _ in RULES
    )
    return RolloutSpec(
        name="bench",
        release=RELEASE,
        baseline=BASELINE,
        service="assistant",
        window=timedelta(days=days),
        budgets=budgets,
    )


def counted() -> RolloutSpec:
    """Return four budgets on proportions of 20 min each."""
    budgets = tuple(
        budget.model_copy(
            update={
                "comparison": Comparison.DELTA_PCT,
                "threshold": -2.0,
                "worse": Worse.LOWER,
                "max_duration": 20 * MINUTE,
                "tier": Tier.B,
                "method": Method.SEQUENTIAL,
            }
        )
        for budget in rollout(days=1).budgets
    )
    metrics = {budget.metric: Metric(kind=MetricKind.PROPORTION) for budget in budgets}
    return rollout(days=1).model_copy(update={"budgets": budgets, "metrics": metrics})


def rates() -> Iterator[Sample]:
    """Yield a day of both versions at 60 requests a minute and a success rate of about 90 %."""
    noise = Random(1)
    for minute in range(1, DAY + 1):
        for metric, *_ in RULES:
            for version in (RELEASE, BASELINE):
                successes = 60 - noise.randrange(13)
                yield Sample(START + minute * MINUTE, metric, version, successes / 60, 60.0)


def bucket(minute: int) -> Iterator[Sample]:
    """Yield the samples of one minute: noise, and every 100th minute a bad one."""
    noise = Random(minute)
    time = START + minute * MINUTE
    for metric, _, threshold, _, level in RULES:
        harm = 1 + 2 * threshold / 100 if minute % 100 == 0 else 1.0
        yield Sample(time, metric, RELEASE, level * harm * noise.uniform(0.999, 1.001), 200.0)
        yield Sample(time, metric, BASELINE, level * noise.uniform(0.999, 1.001), 200.0)


def kept_after(days: int) -> int:
    """Return the bytes that a fold holds after ``days`` of polls."""
    spec = rollout(days=days)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fold = Fold(spec, Window(START, START + timedelta(days=days)))
        for hour in range(days * 24):
            start = START + timedelta(hours=hour)
            new = [sample for minute in range(hour * 60 + 1, hour * 60 + 61) for sample in bucket(minute)]
            fold.fold(frame_of(spec, new, start=start, end=start + timedelta(hours=1)))
            del new
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
