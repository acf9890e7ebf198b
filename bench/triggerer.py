"""One process with 5 000 watches of four budgets against a real Prometheus, all of which start at once."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.fleet import environment, fleet_metrics, open_in
from rollback_budget.ledger.ledger import Ledger

TITLE = "5 000 watches of 4 budgets in one process, a poll of 60 s, against a real Prometheus"
ROLLOUTS = 5000
#: How long ago the windows began: what every watch reads again first. By then a watch keeps all it ever will.
BEGAN = timedelta(minutes=40)
#: The past that Prometheus is given ends so long after its making began; nothing is scraped twice.
MAKING = timedelta(seconds=150)
SECONDS = 150


def measure() -> list[Figure]:
    """Watch for a while; the process ends by itself."""
    found = watch(ROLLOUTS, SECONDS)
    steady, start = found["steady"], found["start"]
    # What the collector takes in a process that imports Airflow and watches nothing is not of our making.
    empty = found["empty_collection_s"]
    return [
        Figure(
            f"minutes that each reads again when all start at once, {ROLLOUTS} watches",
            BEGAN.seconds / 60,
            "",
        ),
        Figure("watches that had not caught up after two minutes", ROLLOUTS - start["caught_up"], "", 0),
        Figure("all have caught up after", start["caught_up_after_s"], "s"),
        Figure("polls, then, in 150 s", steady["polls"], ""),
        Figure("polls whose source failed", steady["unknown_looks"], "", 0),
        Figure("watches that ended", found["ended"], "", 0),
        Figure("polls not done 2 s after they were due", 100 * (1 - steady["ended_within_2_s"]), "%", 1),
        Figure("poll begun late, 99th percentile", steady["begun_late_p99_s"], "s", 2),
        Figure("poll done late, verdict included, 99th percentile", steady["ended_late_p99_s"], "s", 2),
        Figure(
            "from a settled bucket to its verdict, polls spread, median",
            steady["verdict_after_median_s"],
            "s",
        ),
        Figure("from a settled bucket to its verdict, 99th percentile", steady["verdict_after_p99_s"], "s"),
        Figure("CPU, of one core", 100 * steady["cpu_share"], "%", 60),
        Figure("CPU a poll", 1e3 * steady["cpu_per_poll_s"], "ms"),
        Figure("event loop: longest at work without a pause", 1e3 * steady["busy_worst_s"], "ms"),
        Figure("of that, a full garbage collection without any watch", 1e3 * empty, "ms"),
        Figure("the rest: of our making", 1e3 * max(steady["busy_worst_s"] - empty, 0), "ms", 200),
        Figure("objects that a full collection walks, a watch", steady["objects"] / ROLLOUTS, ""),
        Figure(
            "event loop: longest late, other processes' doing included", 1e3 * steady["blocked_worst_s"], "ms"
        ),
        Figure("longest full garbage collection", 1e3 * steady["collected_worst_s"], "ms"),
        Figure("while all start: of our making", 1e3 * max(start["busy_worst_s"] - empty, 0), "ms", 200),
        Figure("while all start: longest late", 1e3 * start["blocked_worst_s"], "ms"),
        Figure("while all start: longest full garbage collection", 1e3 * start["collected_worst_s"], "ms"),
        Figure("peak memory of the process", steady["rss_mib"], "MiB", 1024),
    ]


def watch(rollouts: int, seconds: float) -> dict[str, Any]:
    """Return what the watching process noted."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        live_from = datetime.now(UTC).replace(microsecond=0) + MAKING
        start = live_from - BEGAN
        ledger = Ledger(f"sqlite:///{home / 'rollback_budget.db'}")
        ledger.migrate()
        with fleet_metrics(home / "prometheus", rollouts, start, live_from) as url:
            open_in(ledger, rollouts, start, live_from)
            time.sleep(max((live_from - datetime.now(UTC)).total_seconds(), 0))
            file = home / "figures.json"
            subprocess.run(
                [
                    *(sys.executable, "-m", "bench.watching"),
                    *(str(rollouts), str(seconds), start.isoformat(), str(file)),
                ],
                env=environment(home, url),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            found: dict[str, Any] = json.loads(file.read_text())
            return found
