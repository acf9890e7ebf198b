"""Recorded looks: a past rollout as a recording for the backtest, from what the ledger holds of it.

A look holds, of every budget, both versions' values and numbers of events, to six digits. It holds no
histogram: a budget on a quantile is decided by values here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan

from rollback_budget.backtest.recording import Recording
from rollback_budget.engine import Sample
from rollback_budget.exceptions import SeriesError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedLook, RecordedOverride
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec


@dataclass(frozen=True, slots=True)
class RecordedLooks(Recording):
    """A rollout in the ledger.

    :param url: of the ledger, which the process that tries it reads.
    :param spec: what the rollout ran on.
    :param title: what it is called.
    """

    url: str
    key: RolloutKey
    spec: RolloutSpec
    title: str
    overrides: tuple[RecordedOverride, ...] = ()

    @property
    def name(self) -> str:
        """Its title."""
        return self.title

    @property
    def place(self) -> str:
        """The rollout's key."""
        return str(self.key)

    @property
    def relabel(self) -> str:
        """By a later label."""
        command = f"rollback-budget label {self.spec.release} bad --onset TIME --run {self.key.run_id}"
        return f"correct it with `{command}`"

    def samples(self) -> list[Sample]:
        """Rebuild the samples from the looks. Raises LedgerError, and SeriesError where there are none."""
        looks = Ledger(self.url).looks.of(self.key)
        if not looks:
            raise SeriesError(f"{self.key}: the ledger holds no look of it any more; leave it out")
        return samples_of(self.spec, looks, self.overrides)

    def untried(self, spec: RolloutSpec) -> Mapping[str, str]:
        """Return the budgets of ``spec`` on a metric that was not recorded, or was another kind of value."""
        return {
            budget.id: reason
            for budget in spec.budgets
            if (reason := _why_untried(budget, spec, self.spec)) is not None
        }


def samples_of(
    spec: RolloutSpec, looks: Iterable[LoggedLook], overrides: Sequence[RecordedOverride] = ()
) -> list[Sample]:
    """Return the samples that a rollout's looks were made of, as its source gave them, to six digits.

    :param spec: what the rollout ran on.
    :param looks: in order of time; those of ``_increase`` hold sums, which are taken apart.
    :param overrides: after which the sums of the budgets that they name began anew.
    """
    by_budget: dict[str, list[LoggedLook]] = {}
    for look in looks:
        by_budget.setdefault(look.budget, []).append(look)
    series: dict[str, dict[datetime, _Arms]] = {}
    # Where a metric has several budgets, values as they are come before sums that were taken apart.
    for budget in sorted(spec.budgets, key=lambda one: one.comparison is Comparison.INCREASE):
        own = by_budget.get(budget.id, [])
        restarts = [one.at for one in overrides if budget.id in one.budget_ids]
        is_sum = budget.comparison is Comparison.INCREASE
        arms = _taken_apart(own, restarts) if is_sum else map(_arms, own)
        of_series = series.setdefault(budget.series, {})
        for look, both in zip(own, arms, strict=True):
            if of_series.get(look.time, _UNKNOWN) is _UNKNOWN:
                of_series[look.time] = both
    return [sample for name, of_series in series.items() for sample in _samples(spec, name, of_series)]


#: Value and number of events of the release, then of the baseline.
_Arms = tuple[float, float | None, float, float | None]
_UNKNOWN: _Arms = (nan, None, nan, None)


def _samples(spec: RolloutSpec, series: str, of_series: Mapping[datetime, _Arms]) -> Iterator[Sample]:
    scale = spec.metric(series.partition(":")[0]).scale
    for time, (release, release_n, baseline, baseline_n) in of_series.items():
        yield Sample(time, series, spec.release, release / scale, release_n)
        yield Sample(time, series, spec.baseline, baseline / scale, baseline_n)


def _arms(look: LoggedLook) -> _Arms:
    if look.release_value is None and look.baseline_value is None:
        return _UNKNOWN
    return (
        nan if look.release_value is None else look.release_value,
        look.release_n,
        nan if look.baseline_value is None else look.baseline_value,
        look.baseline_n,
    )


def _taken_apart(looks: Sequence[LoggedLook], restarts: Sequence[datetime]) -> Iterator[_Arms]:
    """Yield what each look added to its sums; nothing that was added is unknown where the look is."""
    so_far = [0.0, 0.0, 0.0, 0.0]
    before: LoggedLook | None = None
    for look in looks:
        if before is not None and _starts_over(before, look, restarts):
            so_far = [0.0, 0.0, 0.0, 0.0]
        before = look
        sums = (look.release_value, look.release_n, look.baseline_value, look.baseline_n)
        added: list[float | None] = []
        for place, total in enumerate(sums):
            # What came late can take an event back; it is not given out again.
            added.append(None if total is None else max(total - so_far[place], 0.0))
            so_far[place] = so_far[place] if total is None else max(total, so_far[place])
        yield _known(look, added)


def _starts_over(before: LoggedLook, look: LoggedLook, restarts: Sequence[datetime]) -> bool:
    if before.suspended is not look.suspended:
        return True
    return any(before.time <= at < look.time for at in restarts)


def _known(look: LoggedLook, added: Sequence[float | None]) -> _Arms:
    release, release_n, baseline, baseline_n = added
    if look.delta is not None:
        return release or 0.0, release_n, baseline or 0.0, baseline_n
    # One version had no sample, or both: its sum stood still.
    return (
        nan if not release and not release_n else release or 0.0,
        release_n,
        nan if not baseline and not baseline_n else baseline or 0.0,
        baseline_n,
    )


def _why_untried(budget: Budget, spec: RolloutSpec, then: RolloutSpec) -> str | None:
    if budget.series not in {one.series for one in then.budgets}:
        return f"{budget.series} was not recorded: no budget of that rollout was on it"
    now, before = spec.metrics.get(budget.metric), then.metrics.get(budget.metric)
    if now is not None and before is not None and now.kind is not before.kind:
        return f"{budget.metric} was a {before.kind} then, and is a {now.kind} now"
    every, recorded = pace_of(spec, budget.metric).every, pace_of(then, budget.metric).every
    if every != recorded:
        return (
            f"{budget.metric} was looked at every {say_duration(recorded)} then, and is every"
            f" {say_duration(every)} now"
        )
    grouped = spec.metric(budget.metric).bucket_by
    recorded_by = then.metric(budget.metric).bucket_by
    if grouped is not recorded_by:
        return f"{budget.metric} was counted by {recorded_by} then, and is by {grouped} now"
    return None
