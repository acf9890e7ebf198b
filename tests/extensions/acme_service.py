"""A service behind Acme's router and dashboard: two files, and a thread that makes the traffic."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

RELEASE, BASELINE = "model-v42", "model-v41"
REQUESTS_PER_SECOND = 100


class AcmeService:
    """Every second the versions that the router names get their share of requests; the release's are bad.

    :param router: the file of the router; made, with all traffic on the baseline.
    :param dashboard: the file of the dashboard; made, with the last five minutes.
    """

    def __init__(self, router: Path, dashboard: Path) -> None:
        self._router = router
        self._dashboard = dashboard
        self._next = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> AcmeService:
        self._router.write_text(json.dumps({"weights": {BASELINE: 1.0}, "generation": 1}))
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._write()

    def _write(self) -> None:
        weights = json.loads(self._router.read_text())["weights"]
        with self._dashboard.open("a") as stream:
            while self._next <= datetime.now(UTC):
                for version, share in weights.items():
                    if share:
                        stream.write(self._lines(version, round(share * REQUESTS_PER_SECOND)))
                self._next += timedelta(seconds=1)

    def _lines(self, version: str, requests: int) -> str:
        incidents = 1 if version == RELEASE else 0
        values = {"high_severity_incidents": incidents, "task_success": 0.95}
        points = [
            {
                "time": self._next.isoformat(),
                "metric": metric,
                "version": version,
                "value": value,
                "n": requests,
            }
            for metric, value in values.items()
        ]
        return "".join(f"{json.dumps(point)}\n" for point in points)
