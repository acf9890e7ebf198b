"""Recorded rollouts on disk: minute ``k`` is ``k`` minutes after noon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)

BUDGET = """\
release: v42
baseline: v41
window: 4h
watch: {on_blind: continue}

rollback_budget:
  latency:
    p95_delta_pct: +15
    max_duration_min: 30
    method: threshold
  quality:
    task_success_delta_pp: -2
    max_duration_min: 20
    tier: c
    method: threshold
"""


def at(minute: int) -> str:
    return (NOON + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")


def write_budget(folder: Path) -> Path:
    path = folder / "budget.yaml"
    path.write_text(BUDGET)
    return path


def record(
    folder: Path,
    name: str,
    *,
    slow: range = range(0),
    failing: range = range(0),
    minutes: int = 120,
    versions: tuple[str, str] = ("v42", "v41"),
) -> None:
    """Write a rollout that is slow, and that fails, in some minutes."""
    folder.mkdir(exist_ok=True)
    rows = ["time,metric,version,value,n"]
    for minute in range(1, minutes + 1):
        values = {
            "p95": (2.1 if minute in slow else 1.6, 1.6),
            "task_success": (0.8 if minute in failing else 0.9, 0.9),
        }
        for metric, arms in values.items():
            rows += [
                f"{at(minute)},{metric},{version},{value},100"
                for version, value in zip(versions, arms, strict=True)
            ]
    (folder / name).write_text("\n".join(rows))


def past_rollouts(folder: Path) -> Path:
    """Six rollouts: kept, falsely stopped, found, stopped before it went bad, missed, and unknown."""
    folder = folder / "rollouts"
    record(folder, "a-kept.csv", failing=range(5, 90))
    record(folder, "b-false.csv", slow=range(10, 60))
    record(folder, "c-found.csv", slow=range(40, 121), versions=("v40", "v39"))
    record(folder, "d-early.csv", slow=range(10, 121))
    record(folder, "e-missed.csv", slow=range(40, 60))
    record(folder, "f-unknown.csv", slow=range(1, 100))
    (folder / "labels.csv").write_text(
        "file,label,onset,release,baseline\n"
        "a-kept.csv,good\n"
        "b-false.csv,good,,,\n"
        f"c-found.csv,bad,{at(39)},v40,v39\n"
        f"d-early.csv,bad,{at(100)},,\n"
        f"e-missed.csv,bad,{at(39)}\n"
    )
    return folder
