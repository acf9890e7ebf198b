"""The search for a rule that keeps its promised rate on windows without change, and still finds harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from statistics import median_low
from types import MappingProxyType

from rollback_budget.engine.detection import SLOW_FACTOR
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget
from rollback_budget.model.decision import Action
from rollback_budget.model.method_plan import tested_budgets
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.candidates import fast_line, near, time_lost, time_to_find
from rollback_budget.suggest.harm import can_harm
from rollback_budget.suggest.interval import Rate, rate_of
from rollback_budget.suggest.windows import Breaches, DrawnWindows, Trial

#: Harm that a budget should find, in multiples of its threshold.
HARM = 2.0
#: Windows with harm that each line is tried on.
HARMED = 200
#: Windows without change that a candidate is tried on before it is proposed, at least.
SCREENED = 400
#: In how many parts windows are tried where it may be clear sooner.
PARTS = 4
#: How often a proposal that does not keep its rate is made more careful, and by how much.
_ROUNDS, _MORE_CAREFUL = 3, 1.25

#: How long lines have to find harm, by their place; of others the budget's own durations say it.
Limits = Mapping[int, timedelta]


class Found(Frozen):
    """How harm of twice the threshold, from the window's start, is found.

    :param within: how soon it should be.
    :param in_time: in how many windows it was found so soon.
    :param usually: the time in half of the windows; None where that is longer than ``within``.
    :param lost: how much of both times nothing can be known: the lag of a slow metric.
    """

    within: timedelta
    in_time: Rate
    usually: timedelta | None
    lost: timedelta = timedelta(0)

    @property
    def is_found(self) -> bool:
        """Whether it is found in time in at least half of the windows."""
        return self.usually is not None

    def is_slow(self, duration: timedelta) -> bool:
        """Whether it takes many of the budget's durations."""
        return self.usually is None or self.usually - self.lost > SLOW_FACTOR * duration


class Tried(Frozen):
    """One line, and what it does.

    :param false_trips: windows without change in which it breaches.
    :param found: None where harm cannot be put into what was recorded (`_increase`, `_above`, `_below`, 0).
    """

    budget: str
    threshold: float
    max_duration: timedelta
    false_trips: Rate
    found: Found | None

    @property
    def is_slow(self) -> bool:
        """Whether it takes many of its durations to find harm of twice its threshold."""
        return self.found is not None and self.found.is_slow(self.max_duration)


@dataclass(frozen=True, slots=True)
class TriedRule:
    """A rule, its lines in the order of ``spec.budgets``, and how often it stops a rollout for nothing."""

    spec: RolloutSpec
    lines: tuple[Tried, ...]
    false_trips: Rate

    @property
    def keeps(self) -> bool:
        """Whether the promised rate lies above all that the counted one can be."""
        return self.false_trips.high <= self.spec.analysis.alpha

    @property
    def finds(self) -> bool:
        """Whether every line finds harm of twice its threshold in time."""
        return all(line.found is None or line.found.is_found for line in self.lines)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the search came to.

    :param places: of each budget of the old rule: the place of its line in the new one, and its fast line's.
    :param rounds: how often it was made more careful, because the first proposal did not keep its rate.
    """

    rule: TriedRule
    places: tuple[tuple[int, int | None], ...]
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """Tries rules on drawn windows.

    :param days: windows without change for every count of false trips.
    :param find_within: how soon harm of twice the threshold should be found, at the least.
    """

    windows: DrawnWindows
    days: int
    find_within: timedelta

    def try_rule(
        self,
        spec: RolloutSpec,
        windows: range,
        *,
        at_once: bool = False,
        limits: Limits = MappingProxyType({}),
    ) -> TriedRule:
        """Count what a whole rule does in windows without change, and whether its lines find harm.

        :param limits: of the lines that are compared with others.
        :param at_once: stop where it is clear that the promised rate is not kept; how far it is from that
            needs no thousands of windows.
        """
        trips: list[Breaches] = []
        part = ceil(len(windows) / PARTS) if at_once else len(windows)
        while len(trips) < len(windows):
            trips += self.windows.try_rule(Trial(spec), windows[len(trips) : len(trips) + part])
            if _rate(trips, _stopping(spec)).low > spec.analysis.alpha:
                break
        lines = tuple(
            Tried(
                budget=budget.id,
                threshold=budget.threshold,
                max_duration=budget.max_duration,
                false_trips=_rate(trips, (place,)),
                found=self._found(spec, place, limits),
            )
            for place, budget in enumerate(spec.budgets)
        )
        return TriedRule(spec, lines, _rate(trips, _stopping(spec)))

    def propose(self, old: TriedRule, tuned: RolloutSpec) -> Proposal:
        """Return a rule near ``tuned`` that keeps its promised rate on windows which the search did not use.

        Never one that keeps the promised rate no better than ``old`` and finds less: then ``old`` stays.
        Every line has as long to find harm as that of ``old`` in its place, however long its duration is.

        :param old: the rule as it is.
        :param tuned: the same with the settings of evidence that it should have.
        """
        same = tuple((place, None) for place in range(len(tuned.budgets)))
        if tuned == old.spec and old.keeps and old.finds and not any(line.is_slow for line in old.lines):
            return Proposal(old, same)
        is_kept = tuned == old.spec and old.keeps
        spec, places = self._with_fast_lines(tuned)
        limits = {
            place: line.found.within
            for (place, _), line in zip(places, old.lines, strict=True)
            if line.found is not None
        }
        for (place, _), line in zip(places, old.lines, strict=True):
            if not is_kept:
                spec = self._choose(spec, place, limits)
            elif line.found is not None and not self._finds(spec, place, limits):
                # The promise is kept as it is: only what finds as much of the same harm is better.
                spec = self._choose(spec, place, limits, line)
        for careful in range(_ROUNDS + 1):
            first = (1 + careful) * self.days
            rule = self.try_rule(spec, range(first, first + self.days), limits=limits)
            if rule.keeps or careful == _ROUNDS or not tested_budgets(spec):
                break
            spec = with_design_effect(spec, _MORE_CAREFUL * effect_of(spec))
        if rule.spec == old.spec and rule.keeps and old.keeps:
            return Proposal(old, same)
        is_rarer = not is_kept and rule.false_trips.rate < old.false_trips.rate
        if not is_rarer and self._rule_finds_less(rule, old, places, limits):
            return Proposal(old, same) if tuned == old.spec else self.propose(old, old.spec)
        return Proposal(rule, places, careful)

    def _choose(
        self, spec: RolloutSpec, place: int, limits: Limits, than: Tried | None = None
    ) -> RolloutSpec:
        """Return ``spec`` with the nearest line that keeps its share and finds harm, else only keeps it.

        :param than: leave out the lines that find less of the harm that this one is to find.
        """
        keeping = None
        for candidate in near(spec, spec.budgets[place]):
            tried = _with(spec, place, candidate)
            if than is not None and self._finds_less(tried, place, than, limits):
                continue
            finds = self._finds(tried, place, limits)
            if not finds and keeping is not None:
                continue
            if self._keeps_its_share(tried, place):
                if finds:
                    return tried
                keeping = keeping or tried
        return keeping or spec

    def _rule_finds_less(
        self, rule: TriedRule, old: TriedRule, places: Sequence[tuple[int, int | None]], limits: Limits
    ) -> bool:
        """Whether a line of ``old`` finds harm in time that ``rule`` does not, or only larger or later harm.

        :param places: of the lines of ``old`` in ``rule``.
        """
        has_fast_line = any(fast is not None for _, fast in places)
        for line, (place, _) in zip(old.lines, places, strict=True):
            new = rule.lines[place]
            if line.found is None or new.found is None:
                continue
            if not line.found.is_found:
                # A fast line for big harm takes its share of the promise; that may cost a little here.
                is_same = (new.threshold, new.max_duration) == (line.threshold, line.max_duration)
                is_near = has_fast_line and is_same and new.found.in_time.rate >= line.found.in_time.low
                if not is_near and self._finds_less(rule.spec, place, line, limits):
                    return True
                continue
            is_looser = abs(new.threshold) > abs(line.threshold) or new.max_duration > line.max_duration
            if is_looser or not new.found.is_found:
                return True
        return False

    def _finds_less(self, spec: RolloutSpec, place: int, than: Tried, limits: Limits) -> bool:
        """Whether a line finds less, in the same windows and time, of the harm that ``than`` is to find."""
        if than.found is None:
            return False
        harm = HARM * abs(than.threshold) / abs(spec.budgets[place].threshold)
        found = self._found(spec, place, limits, harm)
        return found is not None and found.in_time.rate < than.found.in_time.rate

    def _finds(self, spec: RolloutSpec, place: int, limits: Limits) -> bool:
        found = self._found(spec, place, limits)
        return found is None or found.is_found

    def _keeps_its_share(self, spec: RolloutSpec, place: int) -> bool:
        share = spec.analysis.alpha / len(spec.budgets)
        windows = min(max(SCREENED, ceil(8.0 / share)), self.days)
        trips = self.windows.try_rule(Trial(spec, (place,)), range(windows))
        return _rate(trips, (0,)).high <= share

    def _found(
        self, spec: RolloutSpec, place: int, limits: Limits = MappingProxyType({}), harm: float = HARM
    ) -> Found | None:
        budget = spec.budgets[place]
        if not can_harm(budget):
            return None
        lost = time_lost(spec, budget)
        # Only looks of the window count, though its last ones are decided a lag after its end.
        within = min(time_to_find(spec, budget, self.find_within), spec.window)
        if place in limits:
            within = limits[place] - lost
        leaves_out = pace_of(spec, budget.metric).leaves_out
        trial = Trial(spec, (place,), harm, within + spec.watch.grace + leaves_out)
        after = [first for (first,) in self.windows.try_rule(trial, range(min(HARMED, self.days)))]
        found = [one for one in after if one is not None]
        late = [timedelta.max] * (len(after) - len(found))
        usually = median_low([*found, *late])
        return Found(
            within=within + lost,
            in_time=rate_of(len(found), len(after)),
            usually=None if usually == timedelta.max else usually,
            lost=lost,
        )

    def _with_fast_lines(self, spec: RolloutSpec) -> tuple[RolloutSpec, tuple[tuple[int, int | None], ...]]:
        """Return ``spec`` with a fast line behind each slow one, and where each line and its fast one stand.

        They come before the search, because they take their share of the promised rate.
        """
        budgets: list[Budget] = []
        places: list[tuple[int, int | None]] = []
        for place, budget in enumerate(spec.budgets):
            budgets.append(budget)
            fast = fast_line(spec, budget)
            if fast is not None and self._is_slow(spec, place):
                places.append((len(budgets) - 1, len(budgets)))
                budgets.append(fast)
            else:
                places.append((len(budgets) - 1, None))
        return spec.model_copy(update={"budgets": tuple(budgets)}), tuple(places)

    def _is_slow(self, spec: RolloutSpec, place: int) -> bool:
        found = self._found(spec, place)
        return found is not None and found.is_slow(spec.budgets[place].max_duration)


def with_design_effect(spec: RolloutSpec, effect: float) -> RolloutSpec:
    """Return ``spec`` with another design effect, in two digits behind the point, rounded up."""
    rounded = ceil(100.0 * effect - 1e-9) / 100.0
    return spec.model_copy(update={"analysis": spec.analysis.model_copy(update={"design_effect": rounded})})


def effect_of(spec: RolloutSpec) -> float:
    """Return the design effect of ``spec`` as a number; ``auto`` begins at 1."""
    effect = spec.analysis.design_effect
    return 1.0 if effect == "auto" else effect


def _with(spec: RolloutSpec, place: int, budget: Budget) -> RolloutSpec:
    budgets = (*spec.budgets[:place], budget, *spec.budgets[place + 1 :])
    return spec.model_copy(update={"budgets": budgets})


def _stopping(spec: RolloutSpec) -> tuple[int, ...]:
    """Return the budgets that stop a rollout, by their place; one that only records does not."""
    return tuple(
        place
        for place, budget in enumerate(spec.budgets)
        if spec.decision.of(budget.tier).action is not Action.RECORD_ONLY
    )


def _rate(trips: Sequence[Breaches], places: Sequence[int]) -> Rate:
    return rate_of(sum(any(one[place] is not None for place in places) for one in trips), len(trips))
