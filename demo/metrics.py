"""The simulated service's own metrics, as Prometheus scrapes them: counters that all begin at zero."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from demo.traffic import Request

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper bounds of the latency histogram in seconds: a tenth apart, so that a budget of +15 % can be read.
BOUNDS = tuple(round(0.1 * 1.1**power, 4) for power in range(48))

COUNTERS = {
    "assistant_requests_total": "Requests that were answered.",
    "assistant_failures_total": "Requests whose task did not succeed.",
    "assistant_handoffs_total": "Requests that were handed to a human.",
    "assistant_incidents_total": "High-severity incidents.",
}
HISTOGRAM = "assistant_latency_seconds"


class ServiceMetrics:
    """Counts requests by version; safe to use from several threads."""

    def __init__(self, versions: Iterable[str] | Mapping[str, object]) -> None:
        self._lock = threading.Lock()
        self._counts = {version: dict.fromkeys(COUNTERS, 0) for version in versions}
        self._buckets = {version: [0] * (len(BOUNDS) + 1) for version in self._counts}
        self._sums = dict.fromkeys(self._counts, 0.0)

    def count(self, requests: Iterable[Request]) -> None:
        """Add ``requests``."""
        with self._lock:
            for request in requests:
                counts = self._counts[request.version]
                counts["assistant_requests_total"] += 1
                counts["assistant_failures_total"] += not request.success
                counts["assistant_handoffs_total"] += request.handoff
                counts["assistant_incidents_total"] += request.incident
                bucket = next(
                    (at for at, bound in enumerate(BOUNDS) if request.latency_s <= bound), len(BOUNDS)
                )
                self._buckets[request.version][bucket] += 1
                self._sums[request.version] += request.latency_s

    def text(self) -> str:
        """Return everything in the text format."""
        with self._lock:
            return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterable[str]:
        for name, meaning in COUNTERS.items():
            yield f"# HELP {name} {meaning} (simulated)"
            yield f"# TYPE {name} counter"
            for version, counts in self._counts.items():
                yield f"{name}{{version={quoted(version)}}} {counts[name]}"
        yield f"# HELP {HISTOGRAM} Time to the answer. (simulated)"
        yield f"# TYPE {HISTOGRAM} histogram"
        for version, buckets in self._buckets.items():
            label, total = f"version={quoted(version)}", 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
                total += count
                yield f'{HISTOGRAM}_bucket{{{label},le="{bound}"}} {total}'
            yield f"{HISTOGRAM}_sum{{{label}}} {self._sums[version]}"
            yield f"{HISTOGRAM}_count{{{label}}} {total}"


def quoted(value: str) -> str:
    """Return a label's value as the text format writes it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
