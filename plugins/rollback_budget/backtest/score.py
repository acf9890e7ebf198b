"""Scores: how often a rule, or one budget of it, was right over all recorded rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median_low

from rollback_budget.backtest.folder import Label, Recording
from rollback_budget.backtest.trial import TrialOutcome, Trigger, delay_of, outcome_of

#: One recording, and what tripped in it.
Tripped = tuple[Recording, Trigger | None]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of rollouts.

    :param false_trips: good ones that were tripped, and bad ones before they went bad.
    :param tripped: ones without a label.
    :param median_delay: from the onset to the trip, over the ones found whose onset is known.
    """

    good: int
    bad: int
    unlabelled: int
    found: int
    missed: int
    false_trips: int
    tripped: int
    median_delay: timedelta | None
    longest_delay: timedelta | None


def score(tripped: Iterable[Tripped]) -> Score:
    """Count the outcomes of all recordings."""
    pairs = list(tripped)
    labels = Counter(recording.label for recording, _ in pairs)
    outcomes = Counter(outcome_of(recording, trigger) for recording, trigger in pairs)
    delays = [delay for pair in pairs if (delay := delay_of(*pair)) is not None]
    return Score(
        good=labels[Label.GOOD],
        bad=labels[Label.BAD],
        unlabelled=labels[None],
        found=outcomes[TrialOutcome.FOUND],
        missed=outcomes[TrialOutcome.MISSED],
        false_trips=outcomes[TrialOutcome.FALSE_TRIP],
        tripped=outcomes[TrialOutcome.TRIPPED],
        median_delay=median_low(delays) if delays else None,
        longest_delay=max(delays, default=None),
    )
