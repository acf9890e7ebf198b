"""What `rollback-budget replay` says about the data that a watch has seen, read again in one go."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from click.testing import CliRunner

from rollback_budget.cli.main import cli
from rollback_budget.clock import grid_floor
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.engine.sample import Sample
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import OpenSource, SeriesRequest

#: Prometheus answers no more than 11 000 points a series.
MOST_STEPS = 10_000
EXIT_CODES = {VerdictKind.HEALTHY: 0, VerdictKind.BREACH: 2, VerdictKind.BLIND: 3}


@dataclass(frozen=True)
class Outcome:
    """What two evaluations of the same data must agree on."""

    verdict: VerdictKind
    breaches: frozenset[tuple[str, str, str, datetime, datetime]]
    blind_since: datetime | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> Outcome:
        return cls(
            evaluation.verdict,
            frozenset(
                (breach.budget, breach.tier, breach.method, breach.started_at, breach.breached_at)
                for breach in evaluation.breaches
            ),
            None if evaluation.blind is None else evaluation.blind.since,
        )


def replay_window(
    open_source: OpenSource, budget: Path, spec: RolloutSpec, start: datetime, until: datetime, file: Path
) -> Evaluation:
    """Read what the source holds for the window up to ``until``, record it in ``file``, and replay that.

    :param open_source: opens the source of ``spec``.
    :param budget: the file that ``spec`` was loaded from.
    """
    request = SeriesRequest(
        series=tuple(sorted({budget.series for budget in spec.budgets})),
        release=spec.release,
        baseline=spec.baseline,
        start=grid_floor(start, spec.watch.step),
        end=grid_floor(until, spec.watch.step),
        step=spec.watch.step,
    )
    samples = asyncio.run(read_in_parts(open_source, spec, request))
    record_series(file, samples, request)
    arguments = ["replay", str(budget), "--series", str(file), "--start", start.isoformat(), "--json"]
    said = CliRunner().invoke(cli, arguments)
    assert said.exit_code in EXIT_CODES.values(), said.output
    evaluation = Evaluation.model_validate(json.loads(said.stdout))
    assert said.exit_code == EXIT_CODES[evaluation.verdict], said.output
    return evaluation


async def read_in_parts(open_source: OpenSource, spec: RolloutSpec, request: SeriesRequest) -> list[Sample]:
    """Read the whole range; in parts, where a backend would refuse it."""
    source = await open_source(spec)
    samples: list[Sample] = []
    start = request.start
    try:
        while start < request.end:
            end = min(start + MOST_STEPS * request.step, request.end)
            samples += await source.fetch(request._replace(start=start, end=end))
            start = end
    finally:
        await close_shared_session()
    return samples


def record_series(file: Path, samples: Sequence[Sample], request: SeriesRequest) -> None:
    """Write a recorded series; an unknown row at its end says up to where it was asked for."""
    rows = [
        (sample.time.isoformat(), sample.series, sample.version, sample.value, sample.n, sample.le)
        for sample in samples
    ]
    if not any(sample.time == request.end for sample in samples):
        rows.append((request.end.isoformat(), request.series[0], request.release, "", None, None))
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(("time", "metric", "version", "value", "n", "le"))
        writer.writerows(rows)
