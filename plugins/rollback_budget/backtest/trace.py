"""The trace of one rollout: where every budget stood at every look, for a chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.backtest.trial import Record, Trial, to_the_end
from rollback_budget.engine import Fold, Frame
from rollback_budget.engine.time_us import moment
from rollback_budget.model.budget import Budget
from rollback_budget.model.method_plan import alpha_of


@dataclass(frozen=True, slots=True)
class Point:
    """One budget at one look; None is unknown."""

    time: datetime
    delta: float | None
    burn: timedelta
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Track:
    """One budget over the window.

    :param breached_at: its first breach, None when it was kept.
    """

    budget: Budget
    points: tuple[Point, ...]
    breached_at: datetime | None


@dataclass(frozen=True, slots=True)
class Trace:
    """One rollout.

    :param alpha: the share of the false-rollback rate of one tested budget.
    :param onset: when it went bad, as far as known.
    """

    title: str
    alpha: float
    onset: datetime | None
    tracks: tuple[Track, ...]


def trace_of(record: Record, trial: Trial) -> Trace:
    """Fold a recorded rollout look by look."""
    spec, frame = record.spec, record.frame
    fold = Fold(to_the_end(spec), record.window, watch_blind=False)
    points: list[list[Point]] = [[] for _ in spec.budgets]
    for time in frame.times:
        fold.fold(Frame(frame.times, time, frame.arms))
        for standing, track in zip(fold.evaluation().budgets, points, strict=True):
            delta = standing.look.delta if standing.look is not None else None
            track.append(Point(moment(time), delta, standing.burn, standing.p_value))
    breached = {trigger.budget: trigger.at for trigger in trial.triggers}
    return Trace(
        title=f"{record.recording.name}: {spec.release} against {spec.baseline}",
        alpha=alpha_of(spec),
        onset=record.recording.onset,
        tracks=tuple(
            Track(budget, tuple(track), breached.get(budget.id))
            for budget, track in zip(spec.budgets, points, strict=True)
        ),
    )
