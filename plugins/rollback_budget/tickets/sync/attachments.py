"""Evidence of a breach as files: the series that the watch saw, and the chart of it."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rollback_budget.engine.trace import BudgetTrace, Trace, TracePoint
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedBreach, LoggedLook
from rollback_budget.model.budget import Budget
from rollback_budget.model.method_plan import alpha_of
from rollback_budget.model.spec import RolloutSpec


def file_name(logged: LoggedBreach, suffix: str) -> str:
    """Return the name of a breach's file, the same whenever it is made."""
    words = "-".join(re.findall(r"[a-z0-9]+", f"{logged.breach.area} {logged.breach.metric}".lower()))
    return f"{words[:60]}-{logged.fingerprint[:12]}{suffix}"


#: So long after a breach its looks have been written, if they ever will be.
WRITTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class WatchedBudget:
    """What a watch saw of a breached budget."""

    logged: LoggedBreach
    spec: RolloutSpec
    budget: Budget
    looks: tuple[LoggedLook, ...]


def watched(ledger: Ledger, logged: LoggedBreach, now: datetime) -> WatchedBudget | None:
    """Return what the watch saw of the breached budget; None when the ledger holds nothing of it.

    Looks are written a little later than breaches, so None also while those up to the breach are missing.
    """
    until = ledger.looks.newest_times([logged.key]).get(logged.key)
    if until is None or (until < logged.breach.breached_at and now < logged.logged_at + WRITTEN_AFTER):
        return None
    rollout = ledger.rollouts.get(logged.key)
    budgets = () if rollout is None else rollout.spec.budgets
    budget = next((one for one in budgets if one.id == logged.breach.budget), None)
    if rollout is None or budget is None:
        return None
    looks = tuple(ledger.looks.of(logged.key, budget.id))
    return WatchedBudget(logged, rollout.spec, budget, looks) if looks else None


def series_csv(seen: WatchedBudget) -> bytes:
    """Return what the watch saw as a recorded series that ``replay`` reads."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("time", "metric", "version", "value", "n"))
    for look in seen.looks:
        for version, value, n in (
            (seen.logged.release, look.release_value, look.release_n),
            (seen.logged.baseline, look.baseline_value, look.baseline_n),
        ):
            rows.writerow((_iso(look.time), seen.budget.series, version, _number(value), _number(n)))
    return text.getvalue().encode()


def chart_png(seen: WatchedBudget) -> bytes:
    """Return the chart of the breached budget. Needs the extra ``charts``."""
    from rollback_budget.charts import draw_trace

    track = BudgetTrace(
        seen.budget,
        tuple(TracePoint(look.time, look.delta, look.burn, look.p_value) for look in seen.looks),
        seen.logged.breach.breached_at,
    )
    title = f"{seen.logged.service}: {seen.logged.release} against {seen.logged.baseline}"
    with tempfile.TemporaryDirectory(prefix="rollback-budget-") as folder:
        file = Path(folder) / "chart.png"
        draw_trace(Trace(title, alpha_of(seen.spec), None, (track,)), file)
        return file.read_bytes()


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
