"""A real Prometheus of the tests' own, from the system's binaries."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

from tests.support.network import find_free_port, wait_until

WHY_NOT = "no Prometheus found; install the package prometheus"


def is_installed() -> bool:
    """Whether the server and its tool are there."""
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


@dataclass
class Prometheus:
    """A server with a storage of its own; can be stopped and started again on the same port and data.

    :param targets: addresses (``host:port``) whose ``/metrics`` is scraped.
    :param scrape_interval: as Prometheus writes it.
    :param arguments: further command line arguments.
    """

    folder: Path
    targets: Sequence[str] = ()
    scrape_interval: str = "1s"
    arguments: Sequence[str] = ()
    scheme: str = "http"
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Its storage."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it and wait until it accepts queries."""
        self.port = self.port or find_free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(self._config())
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self.data}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--storage.tsdb.retention.time=10y",
                "--log.level=warn",
                *self.arguments,
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_until(self._is_ready, within_s=60, what="Prometheus being ready")

    def stop(self) -> None:
        """End it and wait for that."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=30)
        self._process = None

    def reload(self, targets: Sequence[str]) -> None:
        """Scrape other targets from now on, by restarting."""
        self.targets = targets
        self.stop()
        self.start()

    def backfill(self, lines: Iterable[str]) -> None:
        """Make blocks of samples in the OpenMetrics format, each with its time; only while it is stopped."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "backfill.om"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            out.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def query(self, query: str, time: datetime | None = None) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each result of an instant query."""
        asked = {"query": query} | ({} if time is None else {"time": str(time.timestamp())})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{urlencode(asked)}", timeout=10) as reply:
            result = json.load(reply)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def _config(self) -> str:
        targets = json.dumps(list(self.targets))
        return (
            f"global: {{scrape_interval: {self.scrape_interval}, scrape_timeout: {self.scrape_interval}}}\n"
            f"scrape_configs:\n  - job_name: tests\n    static_configs: [{{targets: {targets}}}]\n"
        )

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"Prometheus ended: {(self.folder / 'log').read_text()[-2000:]}")
        return self._answers_ready()

    def _answers_ready(self) -> bool:
        import httpx

        try:
            # Behind a web configuration it asks who is there, which is an answer, too.
            reply = httpx.get(f"{self.url}/-/ready", timeout=2, verify=False, trust_env=False)
        except httpx.HTTPError:
            return False
        return reply.status_code in (200, 401, 404)


@contextmanager
def running_prometheus(
    folder: Path,
    targets: Sequence[str] = (),
    *,
    scrape_interval: str = "1s",
    arguments: Sequence[str] = (),
    scheme: str = "http",
    backfill: Iterable[str] | None = None,
) -> Iterator[Prometheus]:
    """Run a Prometheus on a free port; it may be stopped and started inside."""
    prometheus = Prometheus(folder, targets, scrape_interval, arguments, scheme)
    if backfill is not None:
        prometheus.backfill(backfill)
    prometheus.start()
    try:
        yield prometheus
    finally:
        prometheus.stop()
