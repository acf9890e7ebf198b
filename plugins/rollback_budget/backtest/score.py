"""Scores: how often a rule, or one budget of it, was right over all recorded rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import NamedTuple

from rollback_budget.backtest.recording import Recording
from rollback_budget.backtest.trial import Trial, TrialOutcome, Trigger, delay_of, outcome_of
from rollback_budget.model.label import Label
from rollback_budget.model.spec import RolloutSpec


class Tripped(NamedTuple):
    """One recording, and what tripped in it.

    :param is_open: whether no trip does not mean that there would have been none.
    """

    recording: Recording
    trigger: Trigger | None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of rollouts.

    :param false_trips: good ones that were tripped, and bad ones before they went bad.
    :param false_trips_of: ones that are decided and could be one: good, or bad since a known onset.
    :param tripped: ones without a label.
    :param undecided: ones of which the recording does not tell whether something would have tripped.
    :param median_delay: from the onset to the trip, over the ones found whose onset is known.
    """

    good: int
    bad: int
    unlabelled: int
    found: int
    missed: int
    false_trips: int
    false_trips_of: int
    tripped: int
    undecided: int
    median_delay: timedelta | None
    longest_delay: timedelta | None


def score(tripped: Iterable[Tripped]) -> Score:
    """Count the outcomes of all recordings."""
    pairs = list(tripped)
    labels = Counter(pair.recording.label for pair in pairs)
    each = [outcome_of(pair.recording, pair.trigger, is_open=pair.is_open) for pair in pairs]
    outcomes = Counter(each)
    delays = [delay for pair in pairs if (delay := delay_of(pair.recording, pair.trigger)) is not None]
    return Score(
        good=labels[Label.GOOD],
        bad=labels[Label.BAD],
        unlabelled=labels[None],
        found=outcomes[TrialOutcome.FOUND],
        missed=outcomes[TrialOutcome.MISSED],
        false_trips=outcomes[TrialOutcome.FALSE_TRIP],
        false_trips_of=sum(
            outcome is not TrialOutcome.UNDECIDED
            and (pair.recording.label is Label.GOOD or pair.recording.onset is not None)
            for pair, outcome in zip(pairs, each, strict=True)
        ),
        tripped=outcomes[TrialOutcome.TRIPPED],
        undecided=outcomes[TrialOutcome.UNDECIDED],
        median_delay=timedelta(seconds=median(one.total_seconds() for one in delays)) if delays else None,
        longest_delay=max(delays, default=None),
    )


def rule_score(trials: Iterable[Trial]) -> Score:
    """Return the score of the rule as a whole."""
    return score(Tripped(trial.recording, trial.deciding, trial.is_open) for trial in trials)


def scores_of(spec: RolloutSpec, trials: Sequence[Trial]) -> tuple[Score, dict[str, Score]]:
    """Return the score of the rule as a whole, and of each budget as if it stood alone, by its id.

    A budget is not scored on recordings on which it cannot be tried.
    """
    return rule_score(trials), {
        budget.id: score(
            Tripped(trial.recording, _trigger_of(trial, budget.id), trial.ends_early)
            for trial in trials
            if budget.id not in trial.untried
        )
        for budget in spec.budgets
    }


def _trigger_of(trial: Trial, budget: str) -> Trigger | None:
    return next((trigger for trigger in trial.triggers if trigger.budget == budget), None)
