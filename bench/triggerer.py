"""One process with 5 000 watches of four budgets against a real Prometheus, for two polls and more."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.fleet import environment, fleet_metrics
from rollback_budget.ledger.store import Ledger

TITLE = "5 000 watches of 4 budgets in one process, a poll of 60 s, against a real Prometheus"
ROLLOUTS = 5000
#: Before anything is asked, so that ranges hold scrapes.
WARM_UP_S = 100
SECONDS = 150


def measure() -> list[Figure]:
    """Watch for a while; the process ends by itself."""
    found = watch(ROLLOUTS, SECONDS)
    steady, start = found["steady"], found["start"]
    return [
        Figure("polls", steady["polls"], ""),
        Figure("polls whose source failed", steady["unknown_looks"], "", 0),
        Figure("watches that ended", found["ended"], "", 0),
        Figure("polls not done 2 s after they were due", 100 * (1 - steady["ended_within_2_s"]), "%", 1),
        Figure("poll begun late, 99th percentile", steady["begun_late_p99_s"], "s", 2),
        Figure("poll done late, verdict included, 99th percentile", steady["ended_late_p99_s"], "s", 2),
        Figure("CPU, of one core", 100 * steady["cpu_share"], "%", 60),
        Figure("CPU a poll", 1e3 * steady["cpu_per_poll_s"], "ms"),
        Figure("longest blockage of the event loop", 1e3 * steady["blocked_worst_s"], "ms", 200),
        Figure("longest blockage while all start at once", 1e3 * start["blocked_worst_s"], "ms", 200),
        Figure("peak memory of the process", steady["rss_mib"], "MiB", 1024),
    ]


def watch(rollouts: int, seconds: float) -> dict[str, Any]:
    """Return what the watching process noted."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ledger = Ledger(f"sqlite:///{home / 'rollback_budget.db'}")
        ledger.migrate()
        with fleet_metrics(home / "prometheus", rollouts) as url:
            time.sleep(WARM_UP_S)
            file = home / "figures.json"
            subprocess.run(
                [sys.executable, "-m", "bench.watching", str(rollouts), str(seconds), str(file)],
                env=environment(home, url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            found: dict[str, Any] = json.loads(file.read_text())
            return found
