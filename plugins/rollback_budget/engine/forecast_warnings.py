"""What about the samples of the last hour would make a watch worth less than its budget promises."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, reduce
from itertools import pairwise
from math import inf, isfinite

from rollback_budget.engine.comparison import fewest_events
from rollback_budget.engine.evaluation import BAD, BudgetEvaluation
from rollback_budget.engine.exceedances import add_histograms
from rollback_budget.engine.frame import NO_TRAFFIC, UNIT_REMEDY, Arms
from rollback_budget.engine.histogram import DEFAULT_QUANTILE, Histogram, quantile_of, read_quantile
from rollback_budget.engine.increase import comparator_of
from rollback_budget.engine.judge_change import NO_JUDGES, RecordedJudges
from rollback_budget.engine.resolution import can_resolve
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget, Comparison, Method
from rollback_budget.model.duration import parse_duration, say_duration, write_duration
from rollback_budget.model.method_plan import plan_of
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.pace import Pace, pace_of
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpTarget
from rollback_budget.model.watch_settings import OnBlind
from rollback_budget.text import counted, plural

#: From so many values on, their rhythm is known.
_FEWEST_FOR_RHYTHM = 4
#: More looks than this share that cannot be read are an error.
MOST_INVALID = 0.1
#: Fewer known looks than this share are worth a warning.
MOST_KNOWN = 0.5
#: More bad looks than this share without any change are worth a warning, where each look is decided alone.
MOST_NOISE = 0.05

_RANGE = re.compile(r"\[\s*((?:\d+(?:ms|[smhd]))+)\s*[\]:]")


@dataclass(frozen=True)
class Column:
    """One version of one series, look by look; NaN is unknown."""

    values: Sequence[float]
    counts: Sequence[float]
    buckets: Sequence[Histogram | None]

    @cached_property
    def known(self) -> list[int]:
        """The looks of which something is known."""
        return [look for look, value in enumerate(self.values) if value == value]

    @cached_property
    def histogram(self) -> Histogram:
        """All histograms in one; empty where there are none."""
        nothing: Histogram = {}
        return reduce(add_histograms, (histogram for histogram in self.buckets if histogram), nothing)

    def or_else(self, other: Column) -> Column:
        """Return itself, or ``other`` when nothing is known."""
        return self if self.known or self.histogram else other


@dataclass(frozen=True)
class BudgetSamples:
    """What came for one budget.

    :param release: may be empty: the release has no traffic before it is shipped.
    :param snapshot: how the engine would decide.
    :param samples: of the budget's series, by version, also those of another time.
    :param begin: after this is what is looked at, up to ``until``.
    :param first_known: the earliest look of the baseline at which any series is known; None without one.
    :param invalid: by time, what came that cannot be a value.
    :param other_bounds: what is said where both versions' histograms have other bounds.
    :param judges: which ones scored it.
    """

    spec: RolloutSpec
    budget: Budget
    release: Column
    baseline: Column
    snapshot: BudgetEvaluation
    samples: Mapping[str, Sequence[Sample]]
    first_known: int | None
    begin: datetime
    until: datetime
    invalid: Mapping[int, str] = field(default_factory=dict)
    other_bounds: str | None = None
    judges: RecordedJudges = NO_JUDGES

    @property
    def pace(self) -> Pace:
        """How often a value comes."""
        return pace_of(self.spec, self.budget.metric)

    @property
    def tested(self) -> Column:
        """Says how the metric is: the baseline, or the release where only that has traffic."""
        return self.baseline.or_else(self.release)


def warnings_of(found: BudgetSamples) -> tuple[str, ...]:
    """Return what is wrong with one budget's samples, the worst first."""
    return tuple(warning for check in _CHECKS for warning in check(found))


def errors_of(found: BudgetSamples) -> tuple[str, ...]:
    """Return why one budget cannot be watched as it is."""
    return tuple(_invalid(found)) if _is_mostly_wrong(found) else ()


def _is_mostly_wrong(found: BudgetSamples) -> bool:
    """Whether what cannot be a value is how the metric is, and not what a restart or a quiet minute gives."""
    if any(said.endswith(UNIT_REMEDY) for said in found.invalid.values()):
        return True
    wrong = [said for said in found.invalid.values() if not said.endswith(NO_TRAFFIC)]
    looks = len(found.invalid) + max(len(found.baseline.known), len(found.release.known))
    return len(wrong) > MOST_INVALID * looks


def _invalid(found: BudgetSamples) -> Iterator[str]:
    if found.invalid:
        said = found.invalid[max(found.invalid)]
        yield f"{said} ({plural(len(found.invalid), 'look')} like this, and each is unknown)"


def _invalid_now_and_then(found: BudgetSamples) -> Iterator[str]:
    if not _is_mostly_wrong(found):
        yield from _invalid(found)


def share_of_release(spec: RolloutSpec) -> float | None:
    """Return the share of traffic that the release gets; None when the spec does not say."""
    if spec.target is None or (isinstance(spec.target, HttpTarget) and spec.target.write is None):
        return None
    return spec.target.ship_share


def _no_samples(found: BudgetSamples) -> Iterator[str]:
    spec, budget, baseline = found.spec, found.budget, found.baseline
    if baseline.known:
        return
    came = found.samples.get(spec.baseline, ())
    if came and not baseline.histogram:
        yield from _nothing_known(found, came)
    elif found.first_known is not None and spec.metric(budget.metric).kind is MetricKind.COUNT:
        yield (
            f"no series of it, and other metrics of {spec.baseline} have one: a counter that is not"
            " initialised at 0 loses its first event; initialise it"
        )
    elif budget.comparison.needs_baseline:
        yield f"no baseline traffic: nothing came of {spec.baseline}, and looks are unknown until it does"
    elif not found.release.known:
        yield f"nothing came of either version: check the query of {budget.metric}"


def _nothing_known(found: BudgetSamples, came: Sequence[Sample]) -> Iterator[str]:
    """Say why nothing is known of a baseline of which samples came; what cannot be a value says so itself."""
    baseline, shift = found.spec.baseline, found.pace.shift
    looked_at = [sample for sample in came if found.begin < sample.time <= found.until]
    if not looked_at and (later := [sample.time for sample in came if sample.time > found.until]):
        first, asked = (
            min(later),
            f" (`lag: {write_duration(found.pace.lag)}`)" if shift > timedelta(0) else "",
        )
        yield (
            f"no look of it is decided yet{asked}: the first value of {baseline} is of"
            f" {first:%Y-%m-%d %H:%M} UTC, and by now looks up to {found.until:%Y-%m-%d %H:%M} UTC are: it"
            " takes a longer record"
        )
    elif not looked_at:
        last = max(sample.time for sample in came)
        yield (
            f"nothing came of {baseline} after {last:%Y-%m-%d %H:%M} UTC, which is before what is looked at"
            f" ({found.begin:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC)"
        )
    elif all(sample.fault is None and not isfinite(sample.value) for sample in looked_at):
        yield (
            f"every sample of {baseline} is NaN ({len(looked_at)}): a rate of nothing, or a division by 0;"
            " looks are unknown until there is a number"
        )


def _judges(found: BudgetSamples) -> Iterator[str]:
    """Say that judges change: every change starts the comparison over."""
    judges, lasts = found.judges, found.budget.max_duration
    if judges.latest is None or not lasts:
        return
    latest, stayed = judges.latest, say_duration(judges.longest)
    changes = (
        f"its judge changed {counted(str(judges.changes), 'times')} here, last from {latest.before} to"
        f" {latest.now} at {us_to_datetime(latest.at):%Y-%m-%d %H:%M} UTC, and each change starts the"
        " comparison over"
    )
    if judges.leave_time_for(lasts):
        yield f"{changes}: keep one judge while a release is watched"
    else:
        yield (
            f"{changes}: none stayed for more than {stayed}, which cannot use up {say_duration(lasts)}, so"
            " that it is never judged: let one judge score all"
        )


def _sparse(found: BudgetSamples) -> Iterator[str]:
    column, looks = found.tested, len(found.tested.values)
    if column.known and len(column.known) < MOST_KNOWN * looks:
        yield (
            f"known at {len(column.known)} of {plural(looks, 'look')} only: an unknown look burns nothing"
            f"{_rhythm(found)}"
        )
    budget = found.budget
    least = budget.min_samples if column.histogram else fewest_events(budget)
    few = sum(column.counts[look] < least for look in column.known)
    if few > MOST_KNOWN * len(column.known):
        known = plural(len(column.known), "look")
        why = (
            f"`min_samples: {least}`" if least == budget.min_samples else f"a {budget.metric} needs, {least}"
        )
        blind = f"; {_goes_blind(found)}" if few == len(column.known) else ""
        yield f"{few} of {known} with fewer events than {why}: unknown{blind}"


def _goes_blind(found: BudgetSamples) -> str:
    """Say what comes of a watch in which no look of the budget is known."""
    spec, area, after = found.spec, found.budget.area, say_duration(found.pace.blind_after)
    if spec.watch.on_blind is OnBlind.CONTINUE:
        return "at this traffic the budget will not be judged (`on_blind: continue`)"
    others = any(budget.area == area and budget.id != found.budget.id for budget in spec.budgets)
    unless = f", or at the window's end where another budget of {area} is known" if others else ""
    return (
        f"at this traffic the watch will be blind after {after}{unless} (`on_blind: {spec.watch.on_blind}`)"
    )


def _rhythm(found: BudgetSamples) -> str:
    """Say how often a value comes, where it comes regularly and more rarely than it is looked for."""
    known = found.tested.known
    gaps = {later - earlier for earlier, later in pairwise(known)}
    if len(known) < _FEWEST_FOR_RHYTHM or len(gaps) != 1 or gaps == {1}:
        return ""
    return f"; a value comes every {write_duration(gaps.pop() * found.pace.every)}, write so as `every`"


def _starts_late(found: BudgetSamples) -> Iterator[str]:
    known, first = found.baseline.known, found.first_known
    if found.spec.metric(found.budget.metric).kind is not MetricKind.COUNT or not known or first is None:
        return
    if known[0] > first and found.baseline.values[known[0]] >= 0.0:
        begun = say_duration(known[0] * found.pace.every)
        yield (
            f"its series began {begun} into the hour, later than others: a counter that starts at 1 hides its"
            " first event; initialise it at 0"
        )


def _histogram(found: BudgetSamples) -> Iterator[str]:
    budget, histogram = found.budget, found.tested.histogram
    if not histogram:
        return
    if found.other_bounds is not None:
        yield found.other_bounds
    level = quantile_of(budget.metric) or DEFAULT_QUANTILE
    value, is_least = read_quantile(histogram, level)
    if is_least:
        largest = max(bound for bound in histogram if bound < inf)
        yield f"{budget.metric} lies beyond the largest bound of its histogram ({largest:g}): add larger ones"
        return
    if budget.comparison is Comparison.DELTA_PCT and not can_resolve(histogram, budget):
        below = max((bound for bound in histogram if 0.0 < bound <= value), default=0.0)
        above = min(bound for bound in histogram if bound > value)
        yield (
            f"the histogram is too coarse: {budget.metric} lies between its bounds {below:g} and {above:g},"
            f" further apart than {abs(budget.threshold):g} %; {found.snapshot.method} is left: add bounds"
        )


def _no_counts(found: BudgetSamples) -> Iterator[str]:
    plan = plan_of(found.spec, found.budget)
    column, method = found.tested, found.snapshot.method
    if not column.known or column.histogram or method is plan.method:
        return
    lacking = found.snapshot.method_reason.partition(", but ")[2].partition(":")[0] or "no counts came"
    yield f"{lacking}: {method} is left instead of {plan.method}"


def _noise(found: BudgetSamples) -> Iterator[str]:
    """A version against itself, a look later: what is bad there is bad without any change."""
    budget, values = found.budget, found.tested.values
    plain = budget.comparison.needs_baseline and budget.comparison is not Comparison.INCREASE
    if not plain or found.snapshot.method is not Method.THRESHOLD or len(found.tested.known) < 3:
        return
    counts = found.tested.counts
    later = Arms(list(values[1:]), list(counts[1:]), list(values[:-1]), list(counts[:-1]))
    view = comparator_of(budget, found.spec).view(later, 0, len(values) - 1)
    bad = view.statuses.count(BAD) / len(view.statuses)
    if bad > MOST_NOISE:
        yield f"{100 * bad:.0f} % of looks would be bad with no change at all: from one to the next, itself"


def _baseline_beyond(found: BudgetSamples) -> Iterator[str]:
    budget = found.budget
    if budget.comparison.needs_baseline or not found.baseline.known:
        return
    column = found.baseline
    values, counts = list(column.values), list(column.counts)
    arms = Arms(values, counts, values, counts)
    statuses = comparator_of(budget, found.spec).view(arms, 0, len(column.values)).statuses
    bad = statuses.count(BAD)
    if 2 * bad > len(column.known):
        known = plural(len(column.known), "look")
        yield f"{found.spec.baseline} is itself beyond the threshold at {bad} of {known}"


def _no_baseline_left(found: BudgetSamples) -> Iterator[str]:
    if found.budget.comparison.needs_baseline and share_of_release(found.spec) == 1.0:
        yield (
            "the release gets all traffic (`target.ship_share`), so that no baseline is left to compare with:"
            " give it a share below 100 %"
        )


def _ranges(found: BudgetSamples) -> Iterator[str]:
    source, query = found.spec.source, found.spec.metric(found.budget.metric).query
    if not isinstance(source, PrometheusSource) or query is None:
        return
    texts = (query.value, query.n) if isinstance(query, PrometheusQuery) else (query,)
    for written in {match for text in texts if text for match in _RANGE.findall(text)}:
        if parse_duration(written) < 2 * source.scrape_interval:
            yield (
                f"its query reads a range of [{written}], shorter than two scrapes"
                f" ({say_duration(source.scrape_interval)} each): empty at times; write [$window]"
            )
    if found.pace.every < source.scrape_interval:
        step = "`watch.step`" if found.spec.metric(found.budget.metric).every is None else "`every`"
        yield f"{step} is shorter than `source.scrape_interval`: some looks have no scrape of their own"


_CHECKS = (
    _no_samples,
    _invalid_now_and_then,
    _judges,
    _sparse,
    _starts_late,
    _histogram,
    _no_counts,
    _noise,
    _baseline_beyond,
    _no_baseline_left,
    _ranges,
)
