"""The track record: whether the budgets of past rollouts were any good, counted from what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from rollback_budget.ledger.views import RecordedOverride
from rollback_budget.model.budget import Budget
from rollback_budget.model.label import Label
from rollback_budget.track_record.rollout_record import Ending, LookCounts, RolloutRecord


@dataclass(frozen=True, slots=True)
class Overrides:
    """Decisions to go on, and what became of their rollouts.

    :param ended: by how the rollout ended.
    :param labelled: by the rollout's label; None for one without.
    """

    ended: Mapping[Ending, int]
    labelled: Mapping[Label | None, int]

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.ended.values())


@dataclass(frozen=True, slots=True)
class Harm:
    """Time for which users were harmed before a rollback, over rollouts that were not labelled good.

    :param measured: over how many rollouts.
    :param from_breach: of these, the ones whose onset nobody said: counted from where their
        breach's first bad look begins.
    :param unknown: rollouts of which it cannot be known, because nothing says when it began or ended.
    :param total: None when nothing is measured.
    """

    measured: int
    from_breach: int
    unknown: int
    total: timedelta | None
    median: timedelta | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rollouts by what stopped them, and by what people said of them afterwards.

    :param false_trips: rolled back, and labelled good, or bad only later.
    :param found: rolled back, and labelled bad.
    :param missed: labelled bad, breached nothing that stops, and was not rolled back.
    :param overridden: labelled bad, breached, and was not rolled back all the same: somebody decided so.
    :param unlabelled: rolled back, and nobody has said whether rightly.
    """

    false_trips: int
    found: int
    missed: int
    overridden: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """One budget of one service over all rollouts that had it.

    :param rollouts: that shipped with it.
    :param breaches: every one, whatever it led to.
    :param found_by_another: labelled bad, and stopped by another budget or by a person alone.
    :param blind: verdicts that its area, or it alone, was not seen.
    :param looks: over the rollouts whose looks are still in the ledger.
    :param without_looks: rollouts whose looks are not.
    """

    service: str
    budget: str
    rollouts: int
    breaches: int
    outcomes: Outcomes
    found_by_another: int
    harm: Harm
    overrides: Overrides
    suspended: timedelta
    blind: int
    looks: LookCounts
    without_looks: int


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """The track record.

    :param endings: rollouts by how they ended.
    :param labels: shipped rollouts that are over, by label; None for those without.
    :param assumed_bad: of the bad ones, those that a commander rolled back and nobody has labelled.
    :param unlabelled: shipped rollouts that are over and without a label, in the order of the records.
    :param outcomes: of the rules as a whole; a rollback by a commander without a breach counts as found.
    :param blind: verdicts that something was not seen.
    """

    as_of: datetime
    endings: Mapping[Ending, int]
    labels: Mapping[Label | None, int]
    assumed_bad: int
    unlabelled: tuple[RolloutRecord, ...]
    outcomes: Outcomes
    harm: Harm
    overrides: Overrides
    blind: int
    budgets: tuple[BudgetRecord, ...]

    @property
    def rollouts(self) -> int:
        """How many rollouts there were."""
        return sum(self.endings.values())


def track_record_of(records: Sequence[RolloutRecord], as_of: datetime) -> TrackRecord:
    """Return the track record of these rollouts, as it is known at ``as_of``."""
    endings = Counter(record.ending(as_of) for record in records)
    shipped = [record for record in records if record.shipped_at is not None]
    over = [record for record in shipped if record.ending(as_of) is not Ending.OPEN]
    names = sorted({(record.spec.service, budget.id) for record in shipped for budget in record.spec.budgets})
    return TrackRecord(
        as_of=as_of,
        endings=endings,
        labels=Counter(None if record.label is None else record.label.label for record in over),
        assumed_bad=sum(record.label is not None and record.label.is_assumed for record in over),
        unlabelled=tuple(record for record in over if record.label is None),
        outcomes=_outcomes(over, as_of),
        harm=_harm(over, as_of),
        overrides=_overrides([(record, one) for record in shipped for one in record.overrides], as_of),
        blind=sum(len(record.blind) for record in shipped),
        budgets=tuple(_budget(service, name, shipped, as_of) for service, name in names),
    )


def _outcomes(over: Sequence[RolloutRecord], as_of: datetime) -> Outcomes:
    counts: Counter[str] = Counter()
    for record in over:
        label = None if record.label is None else record.label.label
        if not record.ending(as_of).is_rolled_back:
            if label is Label.BAD:
                counts["overridden" if record.warned() else "missed"] += 1
        elif label is None:
            counts["unlabelled"] += 1
        else:
            counts["false_trips" if label is Label.GOOD or _is_early(record) else "found"] += 1
    return _counted(counts)


def _counted(counts: Mapping[str, int]) -> Outcomes:
    return Outcomes(
        false_trips=counts["false_trips"],
        found=counts["found"],
        missed=counts["missed"],
        overridden=counts["overridden"],
        unlabelled=counts["unlabelled"],
    )


def _is_early(record: RolloutRecord) -> bool:
    """Whether all that led to the rollback came before the rollout went bad."""
    tripped = record.tripped_by().values()
    return bool(tripped) and all(record.is_false_trip(breach) for breach in tripped)


def _harm(over: Iterable[RolloutRecord], as_of: datetime, budget: str | None = None) -> Harm:
    """Add up the harm of rollouts that were rolled back, by one budget or by whatever."""
    times, from_breach, unknown = [], 0, 0
    for record in over:
        tripped = record.tripped_by()
        if not record.ending(as_of).is_rolled_back or (budget is not None and budget not in tripped):
            continue
        if record.label is not None and record.label.label is Label.GOOD:
            continue
        own = tripped.get(budget) if budget is not None else None
        first = own or min(tripped.values(), key=record.began, default=None)
        time = record.harm(first)
        if time is None:
            unknown += 1
            continue
        times.append(time)
        from_breach += record.label is None or record.label.onset is None
    total = sum(times, timedelta(0)) if times else None
    middle = timedelta(seconds=median(one.total_seconds() for one in times)) if times else None
    return Harm(len(times), from_breach, unknown, total, middle)


def _overrides(taken: Sequence[tuple[RolloutRecord, RecordedOverride]], as_of: datetime) -> Overrides:
    return Overrides(
        ended=Counter(record.ending(as_of) for record, _ in taken),
        labelled=Counter(None if record.label is None else record.label.label for record, _ in taken),
    )


def _budget(service: str, name: str, shipped: Sequence[RolloutRecord], as_of: datetime) -> BudgetRecord:
    own = [
        (record, budget)
        for record in shipped
        if record.spec.service == service
        for budget in record.spec.budgets
        if budget.id == name
    ]
    over = [record for record, _ in own if record.ending(as_of) is not Ending.OPEN]
    counts: Counter[str] = Counter()
    for record in over:
        breach = record.tripped_by().get(name)
        label = None if record.label is None else record.label.label
        if breach is None:
            if label is not Label.BAD:
                continue
            if record.ending(as_of).is_rolled_back:
                counts["found_by_another"] += 1
            else:
                counts["overridden" if name in record.warned() else "missed"] += 1
        elif label is None:
            counts["unlabelled"] += 1
        else:
            counts["false_trips" if record.is_false_trip(breach) else "found"] += 1
    looks = [record.looks.get(name) for record, _ in own if record.looks]
    return BudgetRecord(
        service=service,
        budget=name,
        rollouts=len(own),
        breaches=sum(breach.budget == name for record, _ in own for breach in record.breaches),
        outcomes=_counted(counts),
        found_by_another=counts["found_by_another"],
        harm=_harm(over, as_of, name),
        overrides=_overrides(
            [(record, one) for record, _ in own for one in record.overrides if name in one.budget_ids], as_of
        ),
        suspended=sum((_suspended(record, budget, as_of) for record, budget in own), timedelta(0)),
        blind=sum(
            name in blind.budgets or (not blind.budgets and blind.area == budget.area)
            for record, budget in own
            for blind in record.blind
        ),
        looks=LookCounts(
            sum(one.looks for one in looks if one is not None),
            sum(one.unknown for one in looks if one is not None),
        ),
        without_looks=sum(not record.looks for record, _ in own),
    )


def _suspended(record: RolloutRecord, budget: Budget, as_of: datetime) -> timedelta:
    """Return for how long a budget was suspended while its rollout was watched; overlaps count once."""
    if record.shipped_at is None:
        return timedelta(0)
    total, counted_until, end = timedelta(0), record.shipped_at, record.end(as_of)
    for one in sorted(record.suspensions, key=lambda suspension: suspension.since):
        if not one.covers(budget):
            continue
        since, until = max(one.since, counted_until), min(one.until, end)
        if until > since:
            total += until - since
            counted_until = until
    return total
