"""What the data plane says after a rollback: who gets the requests, and how what serves is doing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite, nan
from typing import TYPE_CHECKING, NamedTuple

from rollback_budget.clock import Now, grid_floor, utc_now
from rollback_budget.engine.comparison import fewest_events
from rollback_budget.engine.delta import delta_of
from rollback_budget.engine.evaluation import BAD, GOOD, UNKNOWN, Breach, Status
from rollback_budget.engine.frame import Arms, frame_of
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.threshold_tolerance import Threshold
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import Pace, pace_of, paces_of, series_of
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.targets.apply import Recovery, Traffic
from rollback_budget.text import counted

if TYPE_CHECKING:
    from rollback_budget.sources.base import OpenSource

#: From when to when the looks of one pace are read.
Span = tuple[datetime, datetime]
#: Over how many steps the baseline's own health is judged.
STEPS_OF_HEALTH = 15


class ReleaseTraffic:
    """Looks at both versions since a rollback was requested.

    :param spec: names the versions and the source.
    :param runner: runs the source's coroutines.
    :param breaches: what was breached, and shall recover.
    :param before: the baseline's values when the rollout began, by series.
    :param warn: called once, at the first look, when the baseline is itself unhealthy.
    :param now: the clock.
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
        now: Now = utc_now,
    ) -> None:
        self._spec = spec
        self._open_source = open_source
        self._runner = runner
        self._breaches = breaches
        self._before = before or {}
        self._warn = warn
        self._now = now
        self._source: Source | None = None
        self._problems: list[str] | None = None
        #: What has not come by then is not waited for.
        self._give_up: datetime | None = None

    def __call__(self, since: datetime) -> Traffic:
        """Return the release's share, and what recovers, over the whole buckets since then."""
        self.baseline_problems(since)
        self._give_up = self._give_up or self._now() + _in_time(self._spec)
        spans = {pace: self._since(pace, since) for pace in _prompt_paces(self._spec)}
        if all(start + pace.every + pace.lag > self._give_up for pace, (start, _) in spans.items()):
            return Traffic(None, "cannot be known: every metric comes too late", knowable=False)
        spans = {pace: (start, end) for pace, (start, end) in spans.items() if start < end}
        if not spans:
            return Traffic(None, "no whole bucket since the change yet")
        start, end = min(start for start, _ in spans.values()), max(end for _, end in spans.values())
        try:
            samples = self._runner.run(self._fetch(spans))
            recovery = recovery_of(self._spec, self._breaches, samples, start, end)
        except (SourceError, SeriesError) as error:
            return Traffic(None, f"cannot be known: {error}")
        share, said, knowable = self._share(samples)
        return Traffic(share, said, knowable, recovery)

    def baseline_problems(self, until: datetime) -> list[str]:
        """Return where the baseline is itself beyond a budget; queried once, up to then; empty if unknown."""
        if self._problems is None:
            spec = self._spec
            spans = {}
            for pace in _prompt_paces(spec):
                last = grid_floor(min(until, self._now() - pace.lag), pace.every)
                spans[pace] = (last - STEPS_OF_HEALTH * pace.every, last)
            start = min((first for first, _ in spans.values()), default=until)
            end = max((last for _, last in spans.values()), default=until)
            try:
                samples = self._runner.run(self._fetch(spans))
                self._problems = baseline_problems(spec, samples, start, end, self._before)
            except (SourceError, SeriesError):
                self._problems = []
            for problem in self._problems:
                self._warn(problem)
        return self._problems

    def _since(self, pace: Pace, since: datetime) -> Span:
        """Return the whole looks of a pace since then that have come."""
        # What arrives at first is about requests from before.
        return (
            grid_floor(since + pace.leaves_out, pace.every) + pace.every,
            grid_floor(self._now() - pace.lag, pace.every),
        )

    async def _fetch(self, spans: Mapping[Pace, Span]) -> list[Sample]:
        if self._source is None:
            self._source = await self._open_source(self._spec)
        found: list[Sample] = []
        for pace, span in spans.items():
            found += await _fetch(self._spec, self._source, pace, span)
        return found

    def _share(self, samples: list[Sample]) -> tuple[float | None, str, bool]:
        if samples and all(sample.n is None for sample in samples):
            return None, "cannot be known: no metric counts requests", False
        requests: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for sample in samples:
            requests[sample.series][sample.version] += sample.n or 0.0
        # Every series counts the same requests; the fullest one misses the fewest.
        fullest = max(requests.values(), key=lambda versions: sum(versions.values()), default={})
        total = sum(fullest.values())
        if total == 0:
            return None, "no requests since the change", True
        release = fullest.get(self._spec.release, 0.0)
        return release / total, f"{release:g} of {counted(f'{total:g}', 'requests')} since the change", True


class Level(NamedTuple):
    """One version's mean over some looks, weighted by events where every look has them; NaN is unknown."""

    value: float
    n: float


def level_of(values: Sequence[float], counts: Sequence[float]) -> Level:
    """Return the mean of the looks that are known."""
    known = [(value, n) for value, n in zip(values, counts, strict=True) if isfinite(value)]
    if not known:
        return Level(nan, nan)
    total = sum(n for _, n in known)
    if not isfinite(total):
        return Level(sum(value for value, _ in known) / len(known), nan)
    return Level(sum(value * n for value, n in known) / total if total > 0 else nan, total)


def baseline_levels(
    spec: RolloutSpec, samples: Iterable[Sample], start: datetime, end: datetime
) -> dict[str, float]:
    """Return the baseline's mean of every series that is known."""
    frames = frame_of(spec, samples, start=start, end=end).paces
    levels = {
        name: level_of(arms.baseline, arms.baseline_n).value
        for frame in frames
        for name, arms in frame.arms.items()
    }
    return {name: value for name, value in levels.items() if isfinite(value)}


def recovery_of(
    spec: RolloutSpec,
    breaches: Sequence[Breach],
    samples: Iterable[Sample],
    start: datetime,
    end: datetime,
) -> Recovery | None:
    """Return whether what was breached is good again for what serves after a rollback: the baseline.

    The release gets no traffic any more, so a delta between the versions says nothing. What users feel now is
    the baseline's value; it has recovered when it is within the budget of what the baseline's was while the
    release was worse (``_above`` and ``_below``: within the budget itself; ``_increase``: the release adds no
    event). Measured over ``(start, end]``.
    """
    budgets = {budget.id: budget for budget in spec.budgets}
    breached = [(budgets[breach.budget], breach) for breach in breaches if breach.budget in budgets]
    if not breached:
        return None
    frame = frame_of(spec, samples, start=start, end=end)
    each = [
        _recovery(budget, breach, frame.of(budget.series).arms[budget.series], spec)
        for budget, breach in breached
    ]
    said = "; ".join(one.said for one in each)
    if any(one.good is False for one in each):
        return Recovery(False, said)
    if all(one.good for one in each):
        return Recovery(True, said)
    return Recovery(None, said, knowable=any(one.good is None and one.knowable for one in each))


def baseline_problems(
    spec: RolloutSpec, samples: Iterable[Sample], start: datetime, end: datetime, before: Mapping[str, float]
) -> list[str]:
    """Say where the baseline is itself beyond a budget: its ``_above`` or ``_below``, or what it was before.

    :param before: its values when the rollout began, by series; what is missing is not compared.
    """
    frame = frame_of(spec, samples, start=start, end=end)
    problems = []
    for budget in spec.budgets:
        arms = frame.of(budget.series).arms[budget.series]
        level = level_of(arms.baseline, arms.baseline_n)
        was = before.get(budget.series, nan)
        if budget.comparison is Comparison.INCREASE or _status(budget, level, was) is not BAD:
            continue
        since = f", {_say(spec, budget, was)} before the rollout" if isfinite(was) else ""
        problems.append(
            f"{budget.metric} of {spec.baseline} is {_say(spec, budget, level.value)}{since}, beyond"
            f" {budget.key} {budget.threshold:+g}"
        )
    return list(dict.fromkeys(problems))


async def _fetch(spec: RolloutSpec, source: Source, pace: Pace, span: Span) -> list[Sample]:
    start, end = span
    # One step more: a counter that was not scraped then has what came before the change, too.
    before = start - pace.every if isinstance(spec.source, PrometheusSource) else start
    request = SeriesRequest(series_of(spec, pace), spec.release, spec.baseline, before, end, pace.every)
    found = await source.fetch(request)
    if before < start:
        there = {(one.series, one.version, one.time) for one in found}
        found = [one for one in found if (one.series, one.version, one.time - pace.every) in there]
    return [sample for sample in found if start < sample.time <= end]


def _prompt_paces(spec: RolloutSpec) -> list[Pace]:
    """Return the paces whose values come soon enough to prove something while a rollback is verified."""
    return [pace for pace in paces_of(spec) if _latest(pace) <= _in_time(spec)]


def _in_time(spec: RolloutSpec) -> timedelta:
    """Return how long a rollback is verified, at least so long that a look of ``watch`` comes in time."""
    deadline = timedelta(0) if spec.target is None else spec.target.deadline
    return max(deadline, 2 * spec.watch.step + spec.watch.settle)


def _latest(pace: Pace) -> timedelta:
    """Return how long after a request its value is surely there."""
    return pace.every + pace.lag + pace.leaves_out


def _recovery(budget: Budget, breach: Breach, arms: Arms, spec: RolloutSpec) -> Recovery:
    pace = pace_of(spec, budget.metric)
    if pace not in _prompt_paces(spec):
        late = say_duration(_latest(pace))
        said = f"whether {budget.metric} recovers cannot be known at once: a value is up to {late} late"
        return Recovery(None, said, knowable=False)
    if budget.comparison is Comparison.INCREASE:
        return _no_more_events(budget, arms, spec)
    was = nan
    if budget.comparison.needs_baseline:
        if breach.over_burn.baseline_value is None:
            said = (
                f"whether {budget.metric} recovers cannot be known: the baseline's value at the breach is not"
            )
            return Recovery(None, said, knowable=False)
        was = breach.over_burn.baseline_value
    level = level_of(arms.baseline, arms.baseline_n)
    status = _status(budget, level, was)
    if status is UNKNOWN:
        return Recovery(None, f"whether {budget.metric} recovers is not known yet: too few samples")
    against = f", it was {_say(spec, budget, was)} at the breach" if isfinite(was) else ""
    verb = "recovers" if status is GOOD else "does not recover"
    now = f"{_say(spec, budget, level.value)} for {spec.baseline}, which serves"
    return Recovery(status is GOOD, f"{budget.metric} {verb}: {now}{against}")


def _no_more_events(budget: Budget, arms: Arms, spec: RolloutSpec) -> Recovery:
    if not any(map(isfinite, [*arms.baseline, *arms.release])):
        return Recovery(None, f"whether {budget.metric} recover is not known yet: no samples")
    events = sum(value for value in arms.release if isfinite(value))
    return Recovery(events <= 0, f"{events:g} {budget.metric} of {spec.release} since the change")


def _status(budget: Budget, level: Level, was: float) -> Status:
    """Return the status of a version's level, held against the budget or against what it was before."""
    if not isfinite(level.value) or level.n < max(budget.min_samples, fewest_events(budget)):
        return UNKNOWN
    delta = delta_of(budget, level.value, was)
    return Threshold(budget).status(budget, delta, level.value, was)


def _say(spec: RolloutSpec, budget: Budget, value: float) -> str:
    return f"{value:.4g} {spec.metric(budget.metric).unit}".rstrip()
