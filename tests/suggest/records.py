"""Recorded times without change, and with one; minute ``k`` is ``k`` minutes after midnight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.model.budget import Budget, Comparison, Severity, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec

START = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
RELEASE, BASELINE = "model-v42", "model-v41"
METRIC, JUDGE = "task_success", "judge_score"


def points(threshold: float = -2.0, minutes: float = 20, **more: Any) -> Budget:
    """A budget of percentage points on a success rate."""
    fields: dict[str, Any] = {
        "id": f"quality.{METRIC}_delta_pp",
        "area": "quality",
        "metric": METRIC,
        "comparison": Comparison.DELTA_PP,
        "threshold": threshold,
        "worse": Worse.LOWER,
        "max_duration": timedelta(minutes=minutes),
        "severity": Severity.MAJOR,
    }
    return Budget(**{**fields, **more})


def rollout(*budgets: Budget, hours: float = 4, **more: Any) -> RolloutSpec:
    fields: dict[str, Any] = {
        "name": RELEASE,
        "release": RELEASE,
        "baseline": BASELINE,
        "window": timedelta(hours=hours),
        "metrics": {METRIC: Metric(kind=MetricKind.PROPORTION)},
        "budgets": budgets or (points(),),
        **more,
    }
    return RolloutSpec(**fields)


def by_look(
    of: Callable[[int, str], tuple[float, float | None]], minutes: int = DAY, metric: str = METRIC
) -> list[Sample]:
    """Samples of both versions; ``of`` gives value and events by minute and version."""
    return [
        Sample(START + minute * MINUTE, metric, version, *of(minute, version))
        for minute in range(1, minutes + 1)
        for version in (RELEASE, BASELINE)
    ]


def traffic(
    minutes: int = DAY,
    *,
    seed: int = 1,
    n: int = 30,
    rate: float = 0.9,
    wander: float = 0.0,
    change: Callable[[int], float] = lambda _: 0.0,
) -> list[Sample]:
    """Successes among ``n`` requests a look.

    :param wander: standard deviation of each version's own level, which it keeps for ten minutes.
    :param change: what is added to the release's rate, by minute.
    """
    random, level = Random(seed), {RELEASE: 0.0, BASELINE: 0.0}

    def of(minute: int, version: str) -> tuple[float, float | None]:
        if minute % 10 == 1:
            level[version] = random.gauss(0.0, wander)
        p = rate + level[version] + (change(minute) if version == RELEASE else 0.0)
        return sum(random.random() < p for _ in range(n)) / n, float(n)

    return by_look(of, minutes)


def scores(minutes: int = DAY, every: int = 60, seed: int = 3) -> list[Sample]:
    """Scores of both versions without counts, one in so many minutes."""
    random = Random(seed)
    return [
        Sample(START + minute * MINUTE, JUDGE, version, random.gauss(70.0, 3.0), None)
        for minute in range(every, minutes + 1, every)
        for version in (RELEASE, BASELINE)
    ]


def write(path: Path, samples: Sequence[Sample]) -> Path:
    rows = ["time,metric,version,value,n"]
    rows += [
        f"{one.time.isoformat()},{one.series},{one.version},{one.value!r},{'' if one.n is None else one.n}"
        for one in samples
    ]
    path.write_text("\n".join(rows))
    return path
