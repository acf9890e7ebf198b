"""What tests of tables that are read without a query share: budgets, stored times, counts by hand."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rollback_budget.budget_file import load_budget, preflight_problems
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from tests.support.samples import Place

Row = dict[str, Any]
#: The type of a column on SQLite and PostgreSQL, and what it holds of a time.
EPOCHS: dict[str, tuple[str, Callable[[datetime], Any]]] = {
    "epoch_s": ("DOUBLE PRECISION", datetime.timestamp),
    "epoch_ms": ("BIGINT", lambda time: round(time.timestamp() * 1000)),
}


def shippable(window: str, rest: str) -> str:
    """Return a budget file of ``v2`` against ``v1`` that lacks nothing once ``rest`` is added."""
    return f"""
release: v2
baseline: v1
window: {window}
owner: team
incident_commander: admin
target: {{type: http, conn_id: router, read: {{path: /}}}}
{rest.strip()}
"""


def load_shippable(folder: Path, text: str) -> RolloutSpec:
    """Write a budget file and load it; preflight must find nothing."""
    path = folder / "v2.yaml"
    path.write_text(text)
    spec = load_budget(path)
    assert preflight_problems(spec) == []
    return spec


def request_for(
    spec: RolloutSpec,
    release: str = "v2",
    baseline: str = "v1",
    *,
    start: datetime,
    end: datetime,
    step: timedelta,
) -> SeriesRequest:
    """Return the request for all that the budgets of ``spec`` are held against."""
    series = tuple(sorted({budget.series for budget in spec.budgets}))
    return SeriesRequest(series, release, baseline, start, end, step)


def in_cells(
    rows: Iterable[Row],
    request: SeriesRequest,
    time: str = "time",
    belongs: Callable[[Row], bool] = lambda _row: True,
) -> dict[Place, list[Row]]:
    """Return the rows of each step and version, by their column ``time``; a step's end is its own."""
    cells: dict[Place, list[Row]] = defaultdict(list)
    versions, step_s = (request.release, request.baseline), round(request.step.total_seconds())
    for row in rows:
        at = row[time]
        if request.start < at <= request.end and row["version"] in versions and belongs(row):
            ends = math.ceil(at.timestamp() * 1000 / (step_s * 1000)) * step_s
            cells[datetime.fromtimestamp(ends, UTC), row["version"]].append(row)
    return cells
