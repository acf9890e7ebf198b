"""Looks on their way to the ledger: what one costs the watch, the writer and the disk, on SQLite."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from math import nan
from pathlib import Path
from time import process_time
from typing import Any

from bench.figure import Figure, best_of
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.comparison import Observation
from rollback_budget.engine.evaluation import Status
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import LookRecord, pack
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Budget, Comparison, Severity, Worse
from rollback_budget.model.spec import RolloutSpec

TITLE = "looks: 4 budgets a look, to a ledger on SQLite"
ROLLOUTS, LOOKS_A_DAY = 20, 24 * 60
BATCH = 2_000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def measure() -> list[Figure]:
    """Write a day of looks of some rollouts in batches, then some of them again, then read one rollout."""
    spec = _spec()
    looks = [_standings(spec, minute) for minute in range(LOOKS_A_DAY)]
    packing = best_of(5, lambda: [pack(spec, look) for look in looks]) / len(looks)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        ledger = Ledger(f"sqlite:///{file}")
        ledger.migrate()
        keys = [RolloutKey("rollout", f"run {number}") for number in range(ROLLOUTS)]
        for key in keys:
            ledger.rollouts.open(key, spec, NOON)
        empty = file.stat().st_size
        records = [
            LookRecord(key, NOON + timedelta(minutes=minute), pack(spec, look))
            for minute, look in enumerate(looks)
            for key in keys
        ]
        begun = process_time()
        for first in range(0, len(records), BATCH):
            ledger.looks.add(records[first : first + BATCH])
        writing = (process_time() - begun) / len(records)
        again = best_of(1, lambda: ledger.looks.add(records[:BATCH])) / BATCH
        size = (_size(file) - empty) / ROLLOUTS
        reading = best_of(3, lambda: ledger.looks.of(keys[0]))
        asking = best_of(3, lambda: ledger.looks.newest_times(keys)) / len(keys)
    return [
        Figure("event loop: packing one look of a rollout", 1e6 * packing, "µs", 50),
        Figure(f"thread: writing one look, in batches of {BATCH}", 1e6 * writing, "µs", 100),
        Figure("thread: writing one that is there already", 1e6 * again, "µs"),
        Figure("at a restart: asking up to where one rollout's looks are known", 1e3 * asking, "ms"),
        Figure("size of one rollout's day", size / 1024, "KiB", 400),
        Figure("reading one rollout's day", 1e3 * reading, "ms", 200),
    ]


def _size(file: Path) -> int:
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))


def _standings(spec: RolloutSpec, minute: int) -> tuple[BudgetSnapshot, ...]:
    """Numbers with many digits, as they come."""
    wave = 1.0 + (minute * 37 % 101) / 977.0
    release, baseline, n = 1.6123456 * wave, 1.598765, 193.0 + minute % 7
    delta = 100.0 * (release - baseline) / baseline
    unknown = Observation(minute, Status.UNKNOWN, nan, nan, baseline, nan, n)
    known = Observation(minute, Status.GOOD, delta, release, baseline, n, n + 3)
    p_value = 1.0 / (1.0 + minute % 13)
    return tuple(
        BudgetSnapshot(
            budget.id, unknown if minute % 50 == 0 else known, 60_000_000 * (minute % 5), p_value, minute, 0
        )
        for budget in spec.budgets
    )


def _spec() -> RolloutSpec:
    shared: dict[str, Any] = {
        "comparison": Comparison.DELTA_PCT,
        "threshold": 15,
        "worse": Worse.HIGHER,
        "max_duration": timedelta(minutes=30),
        "severity": Severity.MAJOR,
    }
    budgets = tuple(
        Budget(id=f"area_{name}.{name}_delta_pct", area=f"area_{name}", metric=name, **shared)
        for name in ("p95", "ttft", "cost", "errors")
    )
    return RolloutSpec(
        name="model-v42",
        release="model-v42",
        baseline="model-v41",
        service="support-bot",
        window=timedelta(hours=24),
        budgets=budgets,
    )
