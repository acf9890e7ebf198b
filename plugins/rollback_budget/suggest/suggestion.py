"""A suggestion: what a record without change says about a rule, and the rule that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from math import ceil

from pydantic import AwareDatetime

from rollback_budget.engine.preflight_forecast import BudgetForecast, forecast_watch
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.base import Frozen
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.block_length import block_length
from rollback_budget.suggest.bootstrap import Bootstrap
from rollback_budget.suggest.cells import cells_of
from rollback_budget.suggest.change import change_in
from rollback_budget.suggest.few_looks import few_looks
from rollback_budget.suggest.interval import Rate
from rollback_budget.suggest.judges import judge_warnings
from rollback_budget.suggest.noise import Clustering, Noise, clustering_of, deltas_of, noise_of
from rollback_budget.suggest.record import DAY, NoChangeRecord, record_of
from rollback_budget.suggest.search import Proposal, Search, Tried, effect_of, with_design_effect
from rollback_budget.suggest.snippet import snippet_of
from rollback_budget.suggest.windows import DrawnWindows

#: How many windows are drawn, and how soon harm should be found, where nobody says otherwise.
DAYS, SEED, FIND_WITHIN = 2000, 1, timedelta(hours=2)
#: Blocks of the bootstrap are at least so many of the longest duration, and at least an hour.
_DURATIONS, _LEAST_BLOCK = 3, timedelta(hours=1)
#: At most this part of the record.
_PART = 4


class BudgetSuggestion(Frozen):
    """One budget: its noise, what it does as it is, and what is proposed for it.

    :param clustering: None where no requests are counted, or too few; ``warnings`` say which.
    :param forecast: what it can resolve at this traffic, with the proposed design effect.
    :param fast: a further line for big harm.
    """

    budget: str
    noise: Noise
    clustering: Clustering | None
    forecast: BudgetForecast
    current: Tried
    proposed: Tried
    fast: Tried | None
    warnings: tuple[str, ...]

    @property
    def is_changed(self) -> bool:
        """Whether another threshold or duration is proposed."""
        now, then = self.current, self.proposed
        return (now.threshold, now.max_duration) != (then.threshold, then.max_duration)


class Suggestion(Frozen):
    """What a rule does in windows without change, and the rule that is proposed.

    :param recorded: how long the record is.
    :param block: of the bootstrap.
    :param tolerance: how far from its own time of day a block may come; None where only one day was recorded.
    :param windows: how many were drawn to count false trips; of the rule as it is fewer, where it was clear
        before that it does not keep its promise.
    :param alpha: the promised rate of false trips of the whole rule.
    :param design_effect: that in force; ``proposed_design_effect`` is the one to write.
    :param left_design_effect: one that is surely above what is proposed, and that would only find less; None
        without one.
    :param false_trips: windows without change that the rule as it is stops.
    :param keeps_rate: whether the promised rate is kept, with all of the interval; of the rule as it is.
    :param is_fine: whether nothing is to be changed: the rule keeps its promise, and none near it is better.
    :param rounds: how often the proposal was made more careful because it did not keep its rate at first.
    :param yaml: the proposal, to be pasted into the budget file by a person.
    """

    name: str
    release: str
    baseline: str
    spec_sha256: str
    start: AwareDatetime
    end: AwareDatetime
    recorded: timedelta
    block: timedelta
    tolerance: timedelta | None
    windows: int
    window: timedelta
    seed: int
    alpha: float
    design_effect: float | None
    proposed_design_effect: float
    left_design_effect: float | None
    false_trips: Rate
    keeps_rate: bool
    proposed_false_trips: Rate
    proposed_keeps_rate: bool
    rounds: int
    is_fine: bool
    budgets: tuple[BudgetSuggestion, ...]
    warnings: tuple[str, ...]
    yaml: str


def suggest_rule(
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    days: int = DAYS,
    seed: int = SEED,
    find_within: timedelta = FIND_WITHIN,
    jobs: int = 1,
    on_begin: Callable[[int], object] = lambda _: None,
    on_done: Callable[[int], object] = lambda _: None,
) -> Suggestion:
    """Return what ``samples`` of a time without change say about ``spec``; the same ones say the same.

    :param days: how many windows are drawn to count false trips.
    :param find_within: how soon a budget should find harm of twice its threshold, at the least.
    :param jobs: processes; what comes out does not depend on it.
    :param on_begin: called with a number of windows that are going to be tried.
    :param on_done: called with a number of them that were.
    :raises SeriesError: the record is no good for it.
    """
    record = record_of(spec, samples)
    clusterings, problems = _clusterings(record)
    sure = [one for one in clusterings if one is not None and one.is_sure]
    needed = max((one.design_effect for one in sure), default=1.0)
    tuned = spec
    if effect_of(spec) < needed or spec.analysis.design_effect == "auto":
        tuned = with_design_effect(spec, max((one.careful for one in sure), default=1.0))
    current = tuned if spec.analysis.design_effect == "auto" else spec
    block = _block(record)
    drawn = Bootstrap(record, block, seed)
    with DrawnWindows(drawn, jobs=jobs, on_begin=on_begin, on_done=on_done) as windows:
        search = Search(windows, days, find_within)
        old = search.try_rule(current, range(days), at_once=True)
        proposal = search.propose(old, tuned)
    new = proposal.rule
    forecasts = forecast_watch(tuned, record.samples, start=record.start, end=record.end).budgets
    budgets = tuple(
        BudgetSuggestion(
            budget=budget.id,
            noise=noise_of(record, budget),
            clustering=clustering,
            forecast=forecast,
            current=line,
            proposed=new.lines[place],
            fast=None if fast is None else new.lines[fast],
            warnings=tuple(
                said
                for said in (
                    *judge_warnings(spec, record.frame, budget),
                    few_looks(record, budget),
                    change_in(record, budget),
                    problem,
                    *forecast.errors,
                )
                if said is not None
            ),
        )
        for budget, clustering, problem, forecast, line, (place, fast) in zip(
            spec.budgets, clusterings, problems, forecasts, old.lines, proposal.places, strict=True
        )
    )
    wrote = effect_of(new.spec)
    return Suggestion(
        name=spec.name,
        release=spec.release,
        baseline=spec.baseline,
        spec_sha256=spec.sha256,
        start=record.start,
        end=record.end,
        recorded=record.recorded,
        block=block * timedelta(microseconds=drawn.cells.length),
        tolerance=drawn.tolerance,
        windows=days,
        window=spec.window,
        seed=seed,
        alpha=spec.analysis.alpha,
        design_effect=None if spec.analysis.design_effect == "auto" else spec.analysis.design_effect,
        proposed_design_effect=wrote,
        left_design_effect=needed if needed > wrote else None,
        false_trips=old.false_trips,
        keeps_rate=old.keeps,
        proposed_false_trips=new.false_trips,
        proposed_keeps_rate=new.keeps,
        rounds=proposal.rounds,
        is_fine=new.spec == spec and new.keeps,
        budgets=budgets,
        warnings=tuple(_warnings(record, proposal, days)),
        yaml=snippet_of(new.spec, None if wrote == spec.analysis.design_effect else wrote),
    )


def _clusterings(record: NoChangeRecord) -> tuple[list[Clustering | None], list[str | None]]:
    found: list[Clustering | None] = []
    problems: list[str | None] = []
    for budget in record.spec.budgets:
        clustering, problem = None, None
        try:
            clustering = clustering_of(record, budget)
        except SeriesError as error:
            problem = f"no design effect can be told: {error}"
        found.append(clustering)
        problems.append(problem)
    return found, problems


def _block(record: NoChangeRecord) -> int:
    """Return how many cells the blocks of the bootstrap have."""
    _, length, there = cells_of(record)
    cell = timedelta(microseconds=length)
    longest = max(budget.max_duration for budget in record.spec.budgets)
    wanted = [_LEAST_BLOCK / cell, _DURATIONS * longest / cell]
    for budget in record.spec.budgets:
        arms = record.frame.of(budget.series).arms[budget.series]
        deltas = [delta for _, delta in deltas_of(budget, arms, 1)]
        if len(deltas) > 1:
            wanted.append(block_length(deltas) * (pace_of(record.spec, budget.metric).every / cell))
    return max(min(ceil(max(wanted)), there // _PART), 1)


def _warnings(record: NoChangeRecord, proposal: Proposal, days: int) -> list[str]:
    said = []
    recorded = record.recorded / DAY
    said.append(
        f"{'a day was' if round(recorded, 1) == 1 else f'{recorded:.2g} days were'} recorded, and all {days}"
        " windows are made of those looks: they share its noise, and what comes less often is in none of them"
    )
    if recorded < 2.0:
        said.append(
            "with less than two days, the time of day is not kept, and the design effect is known to about a"
            " quarter; a week gives a tenth"
        )
    if not proposal.rule.keeps:
        said.append(
            "no rule near this one was found that keeps the promised rate: record more, look at what makes"
            " the versions differ, or agree on another rule"
        )
    return said
