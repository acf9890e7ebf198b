"""The simulation behind docs/explanation/decision-quality.md tests what the engine does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path

import numpy as np
import pytest

from bench.quality import cells, peers, report
from bench.quality.sequential import Rule, log_evidence, sequential
from bench.quality.traffic import Floats, Scenario, Traffic, simulate
from rollback_budget.engine import Sample, evaluate
from rollback_budget.engine.null_boundary import MULTIPLES, Counts, NullBoundary
from rollback_budget.engine.null_boundary import log_evidence as scalar_log_evidence
from rollback_budget.model.budget import Budget, Comparison, Method, Severity, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch

pytestmark = [pytest.mark.pure, pytest.mark.slow]

START = datetime(2026, 10, 1, tzinfo=UTC)
SCENARIOS = (
    Scenario("harm", 0.08),
    Scenario("late harm", 0.10, onset=300),
    Scenario("a quarter of the traffic", 0.12, share=0.25),
    Scenario("half the budget", 0.01),
)


def rollout(method: Method) -> RolloutSpec:
    budget = Budget(
        id="quality.failed_delta_pp",
        area="quality",
        metric="failed",
        comparison=Comparison.DELTA_PP,
        threshold=2.0,
        worse=Worse.HIGHER,
        max_duration=timedelta(minutes=20),
        severity=Severity.MAJOR,
        method=method,
    )
    return RolloutSpec(
        name="cross-check",
        release="release",
        baseline="baseline",
        service="assistant",
        window=timedelta(days=1),
        budgets=(budget,),
        metrics={"failed": Metric(kind=MetricKind.PROPORTION)},
        watch=Watch(on_blind="continue"),
    )


def breach_minute(spec: RolloutSpec, traffic: Traffic, path: int) -> float:
    """What the engine says about one simulated rollout."""
    arms = {
        "baseline": (traffic.baseline_bad[path], traffic.baseline[path]),
        "release": (traffic.release_bad[path], traffic.release[path]),
    }
    samples = [
        Sample(START + timedelta(minutes=minute), "failed", version, bad / seen, seen)
        for version, (bads, counts) in arms.items()
        for minute, (bad, seen) in enumerate(zip(bads.tolist(), counts.tolist(), strict=True), 1)
        if seen
    ]
    evaluation = evaluate(spec, samples, start=START, until=START + timedelta(days=1))
    if not evaluation.breaches:
        return float("inf")
    return (evaluation.breaches[0].breached_at - START) / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("method", "vectorised"),
    [
        (Method.SEQUENTIAL, sequential),
        (Method.SIGN, peers.sign),
        (Method.THRESHOLD, peers.per_minute_for),
    ],
)
def test_the_engine_decides_every_simulated_path_in_the_same_minute(
    method: Method, vectorised: Callable[[Traffic, Rule], Floats]
) -> None:
    spec = rollout(method)
    found = 0
    for place, scenario in enumerate(SCENARIOS):
        for rate in (5, 30):
            traffic = simulate(scenario, rate, 3, np.random.default_rng([7, place, rate]))
            simulated = vectorised(traffic, Rule())
            assert [breach_minute(spec, traffic, path) for path in range(3)] == simulated.tolist()
            found += int(np.isfinite(simulated).sum())
    assert found or method is Method.THRESHOLD


def test_the_log_evidence_of_a_block_is_the_engines() -> None:
    assert Rule().multiples == MULTIPLES
    random = np.random.default_rng(11)
    for _ in range(200):
        n_c, n_t = random.integers(1, 500, 2)
        k_c, k_t = random.integers(0, n_c + 1), random.integers(0, n_t + 1)
        rate = random.uniform(0.001, 0.6)
        counts = Counts(int(k_c), int(n_c), int(k_t), int(n_t))
        expected = scalar_log_evidence(counts, rate, NullBoundary(0.01, 1.0), 0.02)
        columns = [np.array([[float(count)]]) for count in counts]
        release = rate + 0.01 + 0.02 * np.array([MULTIPLES])
        found = log_evidence(*columns, np.array([[rate]]), release, 0.01)
        assert found[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_cell_is_the_same_every_time_and_reports_what_was_early() -> None:
    cell = cells.Cell("common", cells.LATE_TEN, 30)
    first, second = (cells.measure(cell, 8) for _ in range(2))
    assert first == second
    ours, naive = first["sequential"], first["trailing 20 min average"]
    assert (ours.share, ours.early) == (1.0, 0.0)
    assert isfinite(ours.median)
    assert naive.early == 1.0


def test_the_page_names_every_row_that_is_missed(tmp_path: Path) -> None:
    found = cells.Found(rollouts=100, share=1.0, early=0.0, median=20.0, in_two_hours=1.0)
    names = [report.OURS, *peers.RULES, *(f"tried: {name}" for name in cells.VARIANTS), "with a fast tier"]
    results = {cell: dict.fromkeys(names, found) for cell in cells.cells()}
    # Rolling everything back at once finds all harm, and fails the three rows about harmless rollouts.
    assert len(report.targets_missed(results)) == 3
    assert "| NO |" in report.page(results, 100, 1.0)
    report.chart(results, tmp_path / "chart.svg")
    assert "<svg" in (tmp_path / "chart.svg").read_text()
