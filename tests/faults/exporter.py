"""A small service that Prometheus scrapes, with series that a test can end, reset, double or delay."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASE, BASELINE = "model-v42", "model-v41"
#: Requests per second of each version.
RATE = 40
GOOD, BAD = 0.05, 0.5


@dataclass
class Series:
    """The counters of one version in one scenario; they grow with time, not with scrapes."""

    share: float = GOOD
    requests: float = 0.0
    handoffs: float = 0.0
    exposed: bool = True
    value: float | None = None

    def grow(self, seconds: float) -> None:
        self.requests += RATE * seconds
        self.handoffs += RATE * seconds * self.share

    def reset(self) -> None:
        self.requests = self.handoffs = 0.0


@dataclass
class Exporter:
    """What is scraped, by scenario and version.

    :param replicas: how often everything is exposed, each time as an instance of its own.
    """

    port: int = 0
    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    grown_at: float = field(default_factory=time.monotonic)

    def add(self, fault: str) -> None:
        """Begin a scenario in which both versions do well."""
        with self.lock:
            for version in (RELEASE, BASELINE):
                self.series[fault, version] = Series()

    def release(self, fault: str) -> Series:
        return self.series[fault, RELEASE]

    def baseline(self, fault: str) -> Series:
        return self.series[fault, BASELINE]

    def text(self) -> str:
        """Return the page that Prometheus reads."""
        with self.lock:
            now = time.monotonic()
            seconds, self.grown_at = now - self.grown_at, now
            lines = []
            for (fault, version), series in self.series.items():
                series.grow(seconds)
                if not series.exposed:
                    continue
                labels = f'fault="{fault}",version="{version}"'
                value = series.share if series.value is None else series.value
                lines += [
                    f"bot_requests_total{{{labels}}} {series.requests!r}",
                    f"bot_handoffs_total{{{labels}}} {series.handoffs!r}",
                    f"bot_handoff_share{{{labels}}} {str(value).replace('nan', 'NaN')}",
                ]
            return "\n".join([*lines, ""])


@contextmanager
def running_exporter() -> Iterator[Exporter]:
    """Serve ``/metrics`` on a free port until the end of the block."""
    exporter = Exporter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = exporter.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    exporter.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield exporter
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
