"""What the data plane says: the drained version's share of requests, from the metric source."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

from rollback_budget.engine.sample import Sample, SeriesRequest, Source
from rollback_budget.errors import SourceError
from rollback_budget.spec.model import RolloutSpec
from rollback_budget.targets.change import Traffic
from rollback_budget.workflow.clock import grid_floor, utc_now

if TYPE_CHECKING:
    from rollback_budget.workflow.watcher import OpenSource


class ReleaseTraffic:
    """Counts requests of both versions since a rollback was requested.

    :param spec: names the versions and the source.
    :param runner: runs the source's coroutines.
    """

    def __init__(self, spec: RolloutSpec, open_source: OpenSource, runner: asyncio.Runner) -> None:
        self._spec = spec
        self._open_source = open_source
        self._runner = runner
        self._source: Source | None = None

    def __call__(self, since: datetime) -> Traffic:
        """Return the release's share over the whole buckets since then."""
        step = self._spec.watch.step
        start = grid_floor(since, step) + step
        end = grid_floor(utc_now() - self._spec.watch.settle, step)
        if end <= start:
            return Traffic(None, "no whole bucket since the change yet")
        try:
            samples = self._runner.run(self._fetch(start, end))
        except SourceError as error:
            return Traffic(None, f"cannot be known: {error}")
        return self._share(samples)

    async def _fetch(self, start: datetime, end: datetime) -> list[Sample]:
        spec = self._spec
        if self._source is None:
            self._source = await self._open_source(spec)
        series = tuple(sorted({budget.series for budget in spec.budgets}))
        request = SeriesRequest(series, spec.release, spec.baseline, start, end, spec.watch.step)
        return [sample for sample in await self._source.fetch(request) if start < sample.time <= end]

    def _share(self, samples: list[Sample]) -> Traffic:
        if samples and all(sample.n is None for sample in samples):
            return Traffic(None, "cannot be known: no metric counts requests", knowable=False)
        requests: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for sample in samples:
            requests[sample.series][sample.version] += sample.n or 0.0
        # Every series counts the same requests; the fullest one misses the fewest.
        counted = max(requests.values(), key=lambda versions: sum(versions.values()), default={})
        total = sum(counted.values())
        if total == 0:
            return Traffic(None, "no requests since the change")
        release = counted.get(self._spec.release, 0.0)
        return Traffic(release / total, f"{release:g} of {total:g} requests since the change")
