"""The extent of a trial: from when to when a recording was tried, and what lies beyond that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.backtest.recording import Recording
from rollback_budget.engine import Window
from rollback_budget.engine.record_span import Spans
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec


@dataclass(frozen=True, slots=True)
class Extent:
    """From when to when a recording was tried: ``start < time <= end``.

    :param window_end: where the window of the rule ends; a record may end before.
    :param recorded_until: the latest sample of what the rule judges.
    :param goes_on: whether it was recorded for a whole look or more after the window.
    """

    start: datetime
    window_end: datetime
    recorded_until: datetime
    goes_on: bool

    @property
    def end(self) -> datetime:
        """Where the trial ends."""
        return min(self.window_end, self.recorded_until)


def extent_of(spec: RolloutSpec, window: Window, spans: Spans) -> Extent:
    """Return the extent of a trial in ``window``, of a record with these spans of samples."""
    steps = {one.series: pace_of(spec, one.metric).every for one in spec.budgets}
    judged = {series: last for series, (_, last) in spans.items() if series in steps}
    return Extent(
        start=window.start,
        window_end=window.end,
        recorded_until=max(judged.values(), default=window.start),
        goes_on=any(last >= window.end + steps[series] for series, last in judged.items()),
    )


def doubts_of(recording: Recording, extent: Extent) -> Iterator[str]:
    """Yield what a trial of this extent could not see, and what to do about it, a sentence each."""
    tried = f"{_said(extent.start)} to {_said(extent.end)}"
    onset = recording.onset
    if onset is not None and onset < extent.start:
        yield (
            f"its onset {_said(onset)} is before what was tried ({tried}): whatever trips counts as found,"
            f" after a delay that nobody saw the beginning of; {recording.relabel}{_or(recording.extend)}"
        )
    elif onset is not None and onset >= extent.end:
        more = "give the budget a longer window" if onset < extent.recorded_until else recording.extend
        yield (
            f"its onset {_said(onset)} is not before the end of what was tried ({tried}): whatever trips"
            f" counts as a false trip, and nothing can find it; {recording.relabel}{_or(more)}"
        )
    if extent.goes_on:
        window = extent.window_end - extent.start
        beyond = say_duration(_whole_seconds(extent.recorded_until - extent.window_end))
        yield (
            f"it goes on for {beyond} after the window of {say_duration(window)} ended at"
            f" {_said(extent.window_end)}, and that was not tried; give the budget the window of that"
            f" rollout{_or(recording.shorten)}"
        )


def _or(remedy: str) -> str:
    return f", or {remedy}" if remedy else ""


def _whole_seconds(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))


def _said(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
