"""What is counted over recorded rollouts, and out of how many."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.backtest.folder import RecordedFile
from rollback_budget.backtest.score import Tripped, score
from rollback_budget.backtest.trial import Trigger
from rollback_budget.model.budget import Method
from rollback_budget.model.label import Label
from tests.engine.builders import at

pytestmark = pytest.mark.pure

NEVER = None


def tripped(
    label: Label | None, minute: int | None, *, onset: int | None = None, is_open: bool = False
) -> Tripped:
    recording = RecordedFile(Path("a.csv"), label=label, onset=None if onset is None else at(onset))
    trigger = None
    if minute is not None:
        trigger = Trigger("latency.p95", at(minute), float(minute), Method.THRESHOLD, None, "a breach")
    return Tripped(recording, trigger, is_open)


def test_false_trips_are_counted_of_the_decided_rollouts_that_can_be_one() -> None:
    good = [tripped(Label.GOOD, 30), tripped(Label.GOOD, NEVER)]
    bad = [tripped(Label.BAD, 30), tripped(Label.BAD, NEVER), tripped(Label.BAD, 90)]
    assert (score(good + bad).false_trips, score(good + bad).false_trips_of) == (1, 2)
    since = [tripped(Label.BAD, 30, onset=60), tripped(Label.BAD, 90, onset=60)]
    assert (score(good + bad + since).false_trips, score(good + bad + since).false_trips_of) == (2, 4)
    unknown = [
        tripped(Label.GOOD, NEVER, is_open=True),
        tripped(Label.BAD, NEVER, onset=60, is_open=True),
        tripped(None, 30),
    ]
    assert score(good + unknown).false_trips_of == 2


def test_the_median_of_an_even_number_of_delays_lies_between_the_two_in_the_middle() -> None:
    found = [tripped(Label.BAD, minute, onset=10) for minute in (45, 190)]
    assert score(found).median_delay == timedelta(minutes=107.5)
