"""Design 5.1 once more: slow, obvious, and in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import isfinite

from rollback_budget.engine import Sample, Status, VerdictKind
from rollback_budget.model.budget import Accounting, Budget, Comparison, Worse
from rollback_budget.model.decision import Action
from rollback_budget.model.metric import BucketBy
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind


@dataclass
class Said:
    """What the engine must say."""

    verdict: VerdictKind
    until: datetime | None
    breaches: list[tuple[str, datetime, datetime]]
    burns: dict[str, timedelta]


class Oracle:
    """Samples lie on whole steps from ``start``."""

    def __init__(
        self, spec: RolloutSpec, samples: Sequence[Sample], start: datetime, until: datetime
    ) -> None:
        self.spec = spec
        self.cells = {(s.time, s.series, s.version): s for s in samples if isfinite(s.value)}
        step, end = spec.watch.step, min(until, start + spec.window)
        self.opening = start + spec.watch.grace
        self.looks: list[datetime] = []
        time = start + step
        while time <= end:
            if time - step >= self.opening:
                self.looks.append(time)
            time += step

    def say(self) -> Said:
        listed: dict[str, tuple[str, datetime, datetime]] = {}
        until = None
        verdict = None
        for index, until in enumerate(self.looks):
            past = self.looks[: index + 1]
            for budget in self.spec.budgets:
                started = self.breach(budget, past)
                if started and budget.id not in listed:
                    listed[budget.id] = (budget.id, started, until)
                    if self.spec.decision.of(budget.tier).action is not Action.RECORD_ONLY:
                        verdict = VerdictKind.BREACH
            if verdict is None and self.is_blind(past):
                verdict = VerdictKind.BLIND
            if verdict:
                break
        at_end = VerdictKind.BREACH if listed else VerdictKind.HEALTHY
        past = [look for look in self.looks if until and look <= until]
        burns = {budget.id: self.burn(budget, past)[0] for budget in self.spec.budgets}
        return Said(verdict or at_end, until, list(listed.values()), burns)

    def breach(self, budget: Budget, past: list[datetime]) -> datetime | None:
        burn, started = self.burn(budget, past)
        bad = self.status(budget, past[-1]) is Status.BAD
        return started if bad and burn >= budget.max_duration else None

    def burn(self, budget: Budget, past: list[datetime]) -> tuple[timedelta, datetime | None]:
        burn, started, previous = timedelta(0), None, None
        for look in past:
            status = self.status(budget, look)
            if status is Status.UNKNOWN:
                continue
            if status is Status.BAD:
                if previous and previous[1] is Status.BAD and look - previous[0] <= self.spec.watch.max_gap:
                    burn += look - previous[0]
                started = started or look
            elif budget.accounting is Accounting.CONSECUTIVE:
                burn, started = timedelta(0), None
            previous = (look, status)
        return burn, started

    def is_blind(self, past: list[datetime]) -> bool:
        if self.spec.watch.on_blind is OnBlind.CONTINUE:
            return False
        for area in {budget.area for budget in self.spec.budgets}:
            budgets = [budget for budget in self.spec.budgets if budget.area == area]
            known = [look for look in past for b in budgets if self.status(b, look) is not Status.UNKNOWN]
            if past[-1] - max([self.opening, *known]) >= self.spec.watch.blind_after:
                return True
        return False

    def status(self, budget: Budget, look: datetime) -> Status:
        release = self.cells.get((look, budget.series, self.spec.release))
        baseline = self.cells.get((look, budget.series, self.spec.baseline))
        if self.is_short(budget, release):
            return Status.UNKNOWN
        assert release is not None
        if not budget.comparison.needs_baseline:
            delta = Fraction(release.value)
        elif self.is_short(budget, baseline):
            return Status.UNKNOWN
        elif budget.comparison is Comparison.INCREASE:
            delta = self.increase(budget, look)
        else:
            assert baseline is not None
            delta = Fraction(release.value) - Fraction(baseline.value)
            if budget.comparison is Comparison.DELTA_PCT:
                if not baseline.value:
                    return Status.UNKNOWN
                delta = 100 * delta / abs(Fraction(baseline.value))
            elif budget.comparison is Comparison.DELTA_PP:
                delta *= 100
        beyond = delta - Fraction(budget.threshold)
        return Status.BAD if (beyond if budget.worse is Worse.HIGHER else -beyond) > 0 else Status.GOOD

    @staticmethod
    def is_short(budget: Budget, sample: Sample | None) -> bool:
        return sample is None or (sample.n is not None and sample.n < budget.min_samples)

    def increase(self, budget: Budget, look: datetime) -> Fraction:
        arms = []
        for version in (self.spec.release, self.spec.baseline):
            counted = [
                s
                for (time, series, of), s in self.cells.items()
                if (series, of) == (budget.series, version) and time in self.looks and time <= look
            ]
            events = sum((Fraction(s.value) for s in counted), Fraction(0))
            known = all(s.n is not None for s in counted)
            arms.append((events, sum((Fraction(s.n or 0) for s in counted), Fraction(0)) if known else None))
        (events, exposure), (expected, other) = arms
        if exposure is None or other is None:
            return events - expected
        return events - expected * exposure / other if other else events


class PacedOracle(Oracle):
    """The same for metrics with paces of their own; ``start`` lies on the grid of each."""

    def __init__(
        self, spec: RolloutSpec, samples: Sequence[Sample], start: datetime, until: datetime
    ) -> None:
        super().__init__(spec, samples, start, until)
        self.start, self.end = start, min(until, start + spec.window)
        self.now: datetime | None = None

    def say(self) -> Said:
        listed: dict[str, tuple[str, datetime, datetime]] = {}
        verdict = None
        decided = sorted({self.decided(b, look) for b in self.spec.budgets for look in self.looks_of(b)})
        for self.now in decided:
            for budget in self.spec.budgets:
                past = self.past(budget)
                if not past or self.decided(budget, past[-1]) != self.now:
                    continue
                self.looks = self.looks_of(budget)
                started = self.breach(budget, past)
                if started and budget.id not in listed:
                    listed[budget.id] = (budget.id, started, past[-1])
                    if self.spec.decision.of(budget.tier).action is not Action.RECORD_ONLY:
                        verdict = VerdictKind.BREACH
            if verdict is None and self.is_anything_blind():
                verdict = VerdictKind.BLIND
            if verdict:
                break
        at_end = VerdictKind.BREACH if listed else VerdictKind.HEALTHY
        burns = {budget.id: self.burn(budget, self.past(budget))[0] for budget in self.spec.budgets}
        until = None if self.now is None else self.now - self.spec.watch.settle
        return Said(verdict or at_end, until, list(listed.values()), burns)

    def every(self, budget: Budget) -> timedelta:
        return self.spec.metric(budget.metric).every or self.spec.watch.step

    def arrives(self, budget: Budget) -> bool:
        return self.spec.metric(budget.metric).bucket_by is BucketBy.ARRIVAL

    def lag(self, budget: Budget) -> timedelta:
        lag = self.spec.metric(budget.metric).lag
        return self.spec.watch.settle if lag is None else lag

    def opens(self, budget: Budget) -> datetime:
        return self.opening + (self.lag(budget) if self.arrives(budget) else timedelta(0))

    def decided(self, budget: Budget, look: datetime) -> datetime:
        return look + (self.spec.watch.settle if self.arrives(budget) else self.lag(budget))

    def steps(self, budget: Budget) -> Fraction:
        return max(Fraction(1), Fraction(self.every(budget) / self.spec.watch.step))

    def looks_of(self, budget: Budget) -> list[datetime]:
        every = self.every(budget)
        times = [self.start + every * k for k in range(1, int((self.end - self.start) / every) + 1)]
        return [time for time in times if time - every >= self.opens(budget)]

    def past(self, budget: Budget) -> list[datetime]:
        return [look for look in self.looks_of(budget) if self.now and self.decided(budget, look) <= self.now]

    def burn(self, budget: Budget, past: list[datetime]) -> tuple[timedelta, datetime | None]:
        self.looks = self.looks_of(budget)
        watch = self.spec.watch
        gap = watch.max_gap * float(self.steps(budget))
        paced = self.spec.model_copy(update={"watch": watch.model_copy(update={"max_gap": gap})})
        self.spec, before = paced, self.spec
        try:
            return super().burn(budget, past)
        finally:
            self.spec = before

    def is_anything_blind(self) -> bool:
        if self.spec.watch.on_blind is OnBlind.CONTINUE:
            return False
        return any(self.is_area_blind(area) for area in {budget.area for budget in self.spec.budgets})

    def is_area_blind(self, area: str) -> bool:
        budgets = [budget for budget in self.spec.budgets if budget.area == area]
        paces = {(self.every(b), self.lag(b), self.arrives(b)) for b in budgets}
        return all(
            self.sees_nothing([b for b in budgets if (self.every(b), self.lag(b), self.arrives(b)) == pace])
            for pace in paces
        )

    def sees_nothing(self, budgets: list[Budget]) -> bool:
        past, after = self.past(budgets[0]), self.spec.watch.blind_after * float(self.steps(budgets[0]))
        known = [look for b in budgets for look in past if self.known(b, look)]
        return bool(past) and past[-1] - max([self.opens(budgets[0]), *known]) >= after

    def known(self, budget: Budget, look: datetime) -> bool:
        self.looks = self.looks_of(budget)
        return self.status(budget, look) is not Status.UNKNOWN
