"""A metrics page of very many versions: ``python -m bench.exporter PORT N EPOCH [BREACH]``.

Counts since EPOCH. From BREACH on (seconds since the epoch) every release has an incident a second.
"""

from __future__ import annotations

import math
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

#: Name and what it grows by in a second; None for the gauge.
COUNTERS = (("requests", 3.0), ("successes", 2.7), ("incidents", 0.0), ("handoffs", 0.3))
GAUGE = ("p95_seconds", 1.6)


def versions_of(rollout: int) -> tuple[str, str]:
    """Return release and baseline of a rollout."""
    return f"release-{rollout:05}", f"baseline-{rollout:05}"


def page(labels: list[str], seconds: float, incidents: int = 0) -> bytes:
    """Return the metrics of all versions, ``seconds`` after they began.

    :param incidents: that every release has had.
    """
    values = [(f"llm_{name}_total", f"{seconds * rate:.3f}\n") for name, rate in COUNTERS]
    values.append((f"llm_{GAUGE[0]}", f"{GAUGE[1]}\n"))
    breached = f"{incidents}\n"
    lines = (
        f"{name}{label} {breached if incidents and _is_breaching(name, label) else value}"
        for name, value in values
        for label in labels
    )
    return "".join(lines).encode()


def _is_breaching(name: str, label: str) -> bool:
    return name == "llm_incidents_total" and "release-" in label


def main(port: int, rollouts: int, begun: float, breach: float) -> None:
    """Serve until killed."""
    labels = [f'{{version="{version}"}}' for number in range(rollouts) for version in versions_of(number)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = time.time()
            body = page(labels, now - begun, int(now - breach) + 1 if now >= breach else 0)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        float(sys.argv[4]) if len(sys.argv) > 4 else math.inf,
    )
