"""What the data plane says after a rollback: who gets the requests, and how what serves is doing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rollback_budget.engine.result import Breach
from rollback_budget.engine.sample import Sample, SeriesRequest, Source
from rollback_budget.errors import SeriesError, SourceError
from rollback_budget.spec.model import RolloutSpec
from rollback_budget.targets.change import Traffic
from rollback_budget.workflow.clock import grid_floor, utc_now
from rollback_budget.workflow.recovery import baseline_troubles, recovery_of

if TYPE_CHECKING:
    from rollback_budget.workflow.watcher import OpenSource

#: Over how many steps the baseline's own health is judged.
STEPS_OF_HEALTH = 15


class ReleaseTraffic:
    """Looks at both versions since a rollback was requested.

    :param spec: names the versions and the source.
    :param runner: runs the source's coroutines.
    :param breaches: what was breached, and shall recover.
    :param before: the baseline's values when the rollout began, by series.
    :param warn: told once, at the first look, when the baseline is itself unhealthy.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        open_source: OpenSource,
        runner: asyncio.Runner,
        *,
        breaches: Sequence[Breach] = (),
        before: Mapping[str, float] | None = None,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._spec = spec
        self._open_source = open_source
        self._runner = runner
        self._breaches = breaches
        self._before = before or {}
        self._warn = warn
        self._source: Source | None = None
        self._troubles: list[str] | None = None

    def __call__(self, since: datetime) -> Traffic:
        """Return the release's share, and what recovers, over the whole buckets since then."""
        self.baseline_troubles(since)
        step = self._spec.watch.step
        start = grid_floor(since, step) + step
        end = grid_floor(utc_now() - self._spec.watch.settle, step)
        if end <= start:
            return Traffic(None, "no whole bucket since the change yet")
        try:
            samples = self._runner.run(self._fetch(start, end))
            recovery = recovery_of(self._spec, self._breaches, samples, start, end)
        except (SourceError, SeriesError) as error:
            return Traffic(None, f"cannot be known: {error}")
        share, said, knowable = self._share(samples)
        return Traffic(share, said, knowable, recovery)

    def baseline_troubles(self, until: datetime) -> list[str]:
        """Return where the baseline is itself beyond a budget up to then; asked once; empty when unknown."""
        if self._troubles is None:
            spec = self._spec
            end = grid_floor(min(until, utc_now() - spec.watch.settle), spec.watch.step)
            start = end - STEPS_OF_HEALTH * spec.watch.step
            try:
                samples = self._runner.run(self._fetch(start, end))
                self._troubles = baseline_troubles(spec, samples, start, end, self._before)
            except (SourceError, SeriesError):
                self._troubles = []
            for trouble in self._troubles:
                self._warn(trouble)
        return self._troubles

    async def _fetch(self, start: datetime, end: datetime) -> list[Sample]:
        spec = self._spec
        if self._source is None:
            self._source = await self._open_source(spec)
        series = tuple(sorted({budget.series for budget in spec.budgets}))
        request = SeriesRequest(series, spec.release, spec.baseline, start, end, spec.watch.step)
        return [sample for sample in await self._source.fetch(request) if start < sample.time <= end]

    def _share(self, samples: list[Sample]) -> tuple[float | None, str, bool]:
        if samples and all(sample.n is None for sample in samples):
            return None, "cannot be known: no metric counts requests", False
        requests: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for sample in samples:
            requests[sample.series][sample.version] += sample.n or 0.0
        # Every series counts the same requests; the fullest one misses the fewest.
        counted = max(requests.values(), key=lambda versions: sum(versions.values()), default={})
        total = sum(counted.values())
        if total == 0:
            return None, "no requests since the change", True
        release = counted.get(self._spec.release, 0.0)
        return release / total, f"{release:g} of {total:g} requests since the change", True
