"""Very many rollouts of four budgets each, and a real Prometheus that has their metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from bench.engine import rollout
from bench.exporter import COUNTERS, GAUGE, versions_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import LookRecord, pack
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Method
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.prometheus.promql import Counters, build_query
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.targets.shares import shares_of
from rollback_budget.watch.watch_plan import WatchPlan
from tests.support.network import find_free_port
from tests.support.prometheus import running_prometheus

CONN_ID, TARGET_CONN_ID = "fleet_metrics", "fleet_router"
SCRAPE = timedelta(seconds=15)
#: Of a backfilled day: one scrape a step, as sparse as ranges of 75 s allow.
BACKFILLED_SCRAPE = timedelta(seconds=30)
METRICS = {
    "task_success": Metric(
        kind=MetricKind.PROPORTION,
        query=PrometheusQuery(events="llm_successes_total", total="llm_requests_total"),
    ),
    "high_severity_incidents": Metric(
        kind=MetricKind.COUNT,
        query=PrometheusQuery(events="llm_incidents_total", total="llm_requests_total"),
    ),
    "p95": Metric(kind=MetricKind.GAUGE, query=PrometheusQuery(gauge="llm_p95_seconds")),
    "human_handoff": Metric(
        kind=MetricKind.PROPORTION,
        query=PrometheusQuery(events="llm_handoffs_total", total="llm_requests_total"),
    ),
}


def spec_of(number: int, watch: Watch | None = None, scrape: timedelta = SCRAPE) -> RolloutSpec:
    """Return rollout ``number`` of the fleet: the rule of the design's minimal file, method ``auto``."""
    release, baseline = versions_of(number)
    plain = rollout(days=1)
    return plain.model_copy(
        update={
            "name": f"rollout-{number:05}",
            "release": release,
            "baseline": baseline,
            "metrics": METRICS,
            "budgets": tuple(budget.model_copy(update={"method": Method.AUTO}) for budget in plain.budgets),
            "source": PrometheusSource(conn_id=CONN_ID, scrape_interval=scrape),
            "target": HttpTarget(
                conn_id=TARGET_CONN_ID,
                read=HttpRead(path=f"/traffic/{number}"),
                write=HttpWrite(
                    path=f"/traffic/{number}",
                    body={"weights": {"$release": "$release_share", "$baseline": "$baseline_share"}},
                    headers={"Idempotency-Key": "$idempotency_key"},
                ),
            ),
            "watch": watch or Watch(settle=timedelta(seconds=30)),
        }
    )


def plan_of(
    number: int, start: datetime, watch: Watch | None = None, scrape: timedelta = SCRAPE
) -> WatchPlan:
    """Return the plan of the watch of rollout ``number``, with terms: a rollback is its own to request."""
    spec = spec_of(number, watch, scrape)
    assert spec.target is not None
    return WatchPlan(
        spec=spec,
        window_start=start,
        window_end=start + spec.window,
        rollout=key_of(number),
        terms=rollback_terms(spec, shares_of(spec, spec.target.ship_share)),
    )


def query_of(number: int) -> str:
    """Return the PromQL of rollout ``number`` when it is queried alone."""
    spec = spec_of(number)
    assert isinstance(spec.source, PrometheusSource)
    series = sorted({budget.series for budget in spec.budgets})
    versions = spec.release, spec.baseline
    query = build_query(spec.source, spec.metrics, series, versions, spec.watch.step, counters=Counters.GO_ON)
    [request] = query.requests
    return request.text


def key_of(number: int) -> RolloutKey:
    """Return the key of rollout ``number`` in the ledger."""
    return RolloutKey(f"rollout-{number:05}", "run")


def open_in(ledger: Ledger, rollouts: int, start: datetime, seen_until: datetime) -> None:
    """Enter the fleet in a ledger, with looks up to ``seen_until``: none up to there is written again."""
    for number in range(rollouts):
        ledger.rollouts.open(key_of(number), spec_of(number), start)
    seen = pack(spec_of(0), ())
    ledger.looks.add([LookRecord(key_of(number), seen_until, seen) for number in range(rollouts)])


@contextmanager
def fleet_metrics(
    folder: Path,
    rollouts: int,
    start: datetime,
    live_from: datetime,
    scrape: timedelta = SCRAPE,
    breach: datetime | None = None,
) -> Iterator[str]:
    """Run the exporter and a Prometheus that has its past and scrapes it; yield the latter's URL.

    :param start: from when on there are metrics.
    :param live_from: the past reaches up to here.
    :param breach: from when on every release has incidents; None: never.
    """
    port = find_free_port()
    arguments = [str(port), str(rollouts), f"{start.timestamp():.3f}"]
    arguments += [] if breach is None else [f"{breach.timestamp():.3f}"]
    exporter = subprocess.Popen([sys.executable, "-m", "bench.exporter", *arguments])
    try:
        with running_prometheus(
            folder,
            [f"127.0.0.1:{port}"],
            scrape_interval=f"{scrape // timedelta(milliseconds=1)}ms",
            # What is scraped goes on with the series of the past.
            backfill=_past(rollouts, start, live_from - start, instance=f"127.0.0.1:{port}", job="tests")
            if live_from > start
            else None,
        ) as prometheus:
            yield prometheus.url
    finally:
        exporter.kill()
        exporter.wait()


def environment(home: Path, url: str, target_url: str = "http://127.0.0.1:9") -> dict[str, str]:
    """Return the environment of a process that watches the fleet, without the caller's Airflow.

    :param target_url: of the control plane; by default nothing listens there.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return plain | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        f"AIRFLOW_CONN_{CONN_ID.upper()}": url,
        f"AIRFLOW_CONN_{TARGET_CONN_ID.upper()}": target_url,
    }


@contextmanager
def backfilled_metrics(folder: Path, rollouts: int, start: datetime) -> Iterator[str]:
    """Run a Prometheus that has a day of the fleet's metrics from ``start`` on; yield its URL."""
    day = _past(rollouts, start, timedelta(days=1, minutes=10))
    with running_prometheus(folder, backfill=day) as prometheus:
        yield prometheus.url


def _past(rollouts: int, start: datetime, lasts: timedelta, **more: str) -> Iterator[str]:
    others = "".join(f',{name}="{value}"' for name, value in more.items())
    versions = [version for number in range(rollouts) for version in versions_of(number)]
    labels = [f'{{version="{version}"{others}}}' for version in versions]
    series: list[tuple[str, float | None]] = [(f"llm_{name}_total", rate) for name, rate in COUNTERS]
    series.append((f"llm_{GAUGE[0]}", None))
    step, epoch = BACKFILLED_SCRAPE.total_seconds(), start.timestamp()
    scrapes = [
        (step * number, f"{epoch + step * number:.3f}") for number in range(int(lasts / BACKFILLED_SCRAPE))
    ]
    for name, rate in series:
        for label in labels:
            for since, at in scrapes:
                yield f"{name}{label} {GAUGE[1] if rate is None else rate * since} {at}"
