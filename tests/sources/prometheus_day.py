"""Series for a real Prometheus: scrapes of counters, written as OpenMetrics to be backfilled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from demo.metrics import quoted

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCRAPE_S = 15


def minute(number: float) -> datetime:
    return NOON + number * MINUTE


def line(name: str, labels: Mapping[str, str], value: float, at_s: float) -> str:
    """One sample, ``at_s`` seconds after noon."""
    inside = ",".join(f"{label}={quoted(text)}" for label, text in labels.items())
    return f"{name}{{{inside}}} {value} {NOON.timestamp() + at_s:.3f}"


def scraped(
    name: str,
    values: Iterable[float | None],
    *,
    first_s: float = -60,
    every_s: float = SCRAPE_S,
    **labels: str,
) -> Iterator[str]:
    """One sample a scrape; None is a scrape that found nothing."""
    for number, value in enumerate(values):
        if value is not None:
            yield line(name, labels, value, first_s + number * every_s)
