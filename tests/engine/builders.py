"""Budgets and series for the engine's tests: minute ``k`` is ``k`` minutes after the window's start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rollback_budget.engine import Sample
from rollback_budget.model.budget import Budget, Comparison, Method, Severity, Tier, Worse
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from tests.support.examples import examples

START = datetime(2026, 10, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RELEASE, BASELINE = "model-v42", "model-v41"

property_test = examples(150)


def at(minute: float) -> datetime:
    return START + minute * MINUTE


def budget(
    metric: str = "p95",
    comparison: Comparison = Comparison.DELTA_PCT,
    threshold: float = 15.0,
    *,
    minutes: float = 30,
    area: str = "latency",
    worse: Worse = Worse.HIGHER,
    tier: Tier = Tier.B,
    **more: Any,
) -> Budget:
    """A budget that is decided by its values, unless ``more`` names another method."""
    return Budget(
        id=f"{area}.{metric}_{comparison.value}",
        area=area,
        metric=metric,
        comparison=comparison,
        threshold=threshold,
        worse=worse,
        max_duration=timedelta(minutes=minutes),
        tier=tier,
        severity=Severity.MAJOR,
        **{"method": Method.THRESHOLD, **more},
    )


def rollout(
    *budgets: Budget, watch: Watch | None = None, minutes: float = 24 * 60, **more: Any
) -> RolloutSpec:
    return RolloutSpec(
        name="model-v42",
        release=RELEASE,
        baseline=BASELINE,
        service="assistant",
        window=timedelta(minutes=minutes),
        budgets=budgets or (budget(),),
        # What examples are made of stands still for longer than anything that is measured.
        watch=watch or Watch(stuck_after=timedelta(days=30)),
        **more,
    )


def arm(
    version: str,
    values: Iterable[float | None],
    *,
    metric: str = "p95",
    n: float | None = None,
    first: int = 1,
) -> list[Sample]:
    """Samples of minutes ``first``, ``first + 1``, …; None leaves one out."""
    return [
        Sample(at(minute), metric, version, value, n)
        for minute, value in enumerate(values, first)
        if value is not None
    ]


def both(
    release: Iterable[float | None],
    *,
    baseline: float = 100.0,
    metric: str = "p95",
    n: float | None = None,
    first: int = 1,
) -> list[Sample]:
    """Samples of the release, and a steady baseline beside each minute, also where the release has none."""
    values = list(release)
    return arm(RELEASE, values, metric=metric, n=n, first=first) + arm(
        BASELINE, [baseline] * len(values), metric=metric, n=n, first=first
    )


def moved(sample: Sample, **changes: Any) -> Sample:
    fields: Mapping[str, Any] = {name: getattr(sample, name) for name in Sample._fields}
    return Sample(**{**fields, **changes})
