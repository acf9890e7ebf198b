"""``python -m bench backtest``: 1 000 recorded rollouts of a day against four budgets, on two cores."""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from random import Random
from time import perf_counter, process_time

from bench.figure import Figure
from rollback_budget.backtest.folder import recordings_of
from rollback_budget.backtest.run import run_backtest
from rollback_budget.backtest.trial import read_record, try_rule
from rollback_budget.model.budget import Budget, Comparison, Method, Severity, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec

TITLE = "backtest: recorded rollouts of 24 h, 4 budgets, a minute a look"

ROLLOUTS, DIFFERENT = 1000, 25
DAY = 24 * 60
#: Metric, threshold, level of the baseline.
RULES = (
    ("task_success", -2.0, 0.9),
    ("grounded", -3.0, 0.8),
    ("human_handoff", 8.0, 0.1),
    ("refusal", 20.0, 0.05),
)


def measure() -> list[Figure]:
    """Measure a folder in which every distinct file stands many times (linked, not copied)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _record(folder)
        figures = []
        for method, limit in ((Method.THRESHOLD, 5), (Method.AUTO, 120)):
            spec = rule(method)
            recordings = recordings_of(folder)
            # What the first one imports, the processes below import within their time.
            read_record(spec, recordings[0])
            begun = process_time()
            for recording in recordings[:10]:
                record = read_record(spec, recording)
            read = (process_time() - begun) / 10
            begun = process_time()
            for _ in range(5):
                try_rule(record)
            folded = (process_time() - begun) / 5
            begun = perf_counter()
            run_backtest(spec, recordings, jobs=2)
            took = perf_counter() - begun
            figures += [
                Figure(f"{method}: reading one rollout", read * 1e3, "ms"),
                Figure(f"{method}: folding it", folded * 1e3, "ms"),
                Figure(f"{method}: {ROLLOUTS} rollouts, two processes, wall clock", took, "s", limit),
            ]
        return figures


def rule(method: Method) -> RolloutSpec:
    """Return four budgets on proportions."""
    return RolloutSpec(
        name="bench",
        release="v42",
        baseline="v41",
        service="assistant",
        window=timedelta(days=1),
        metrics={metric: Metric(kind=MetricKind.PROPORTION) for metric, _, _ in RULES},
        budgets=tuple(
            Budget(
                id=f"{metric}.{metric}_delta_pct",
                area=metric,
                metric=metric,
                comparison=Comparison.DELTA_PCT,
                threshold=threshold,
                worse=Worse.LOWER if threshold < 0 else Worse.HIGHER,
                max_duration=timedelta(minutes=20),
                severity=Severity.MAJOR,
                method=method,
            )
            for metric, threshold, _ in RULES
        ),
    )


def _record(folder: Path) -> None:
    for number in range(DIFFERENT):
        random = Random(number)
        lines = ["time,metric,version,value,n"]
        for minute in range(1, DAY + 1):
            day, clock = divmod(minute, DAY)
            time = f"2026-10-{1 + day:02}T{clock // 60:02}:{clock % 60:02}:00Z"
            for metric, _, level in RULES:
                for version in ("v42", "v41"):
                    n = random.randint(20, 40)
                    events = sum(random.random() < level for _ in range(n))
                    lines.append(f"{time},{metric},{version},{events / n:.6f},{n}")
        first = folder / f"{number:04}.csv"
        first.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for copy in range(number + DIFFERENT, ROLLOUTS, DIFFERENT):
            os.link(first, folder / f"{copy:04}.csv")
