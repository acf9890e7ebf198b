"""Trials: one recorded rollout under one rule, its outcome, and its trace for a chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.backtest.folder import Label, Recording
from rollback_budget.engine import Fold, Frame, VerdictKind, Window, frame_of
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.engine.trace import BudgetTrace, Trace, TracePoint
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Method
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.method_plan import alpha_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.recorded import read_series

_RECORD_ONLY = TierDecision(action=Action.RECORD_ONLY)


class TrialOutcome(StrEnum):
    """What a rule did to a rollout, seen from how the rollout went."""

    FOUND = "found"
    MISSED = "missed"
    FALSE_TRIP = "false trip"
    KEPT = "kept"
    TRIPPED = "tripped"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Trigger:
    """The first breach of one budget."""

    budget: str
    at: datetime
    minute: float
    method: Method
    p_value: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One recorded rollout under one rule.

    :param triggers: of the budgets that breached, in the order of the file.
    :param deciding: the trigger that would have stopped the rollout, None when none would.
    :param blind_at: when a watch would have been blind, None when never.
    """

    recording: Recording
    start: datetime
    until: datetime
    triggers: tuple[Trigger, ...]
    deciding: Trigger | None
    blind_at: datetime | None

    @property
    def outcome(self) -> TrialOutcome:
        """What the rule as a whole did."""
        return outcome_of(self.recording, self.deciding)

    @property
    def delay(self) -> timedelta | None:
        """Time from the onset to the rollback, None unless the rule found a bad rollout of known onset."""
        return delay_of(self.recording, self.deciding)


def outcome_of(recording: Recording, trigger: Trigger | None) -> TrialOutcome:
    """Return the outcome of ``trigger``, or of none; a trip before a bad rollout went bad is a false trip."""
    if recording.label is None:
        return TrialOutcome.QUIET if trigger is None else TrialOutcome.TRIPPED
    if recording.label is Label.GOOD:
        return TrialOutcome.KEPT if trigger is None else TrialOutcome.FALSE_TRIP
    if trigger is None:
        return TrialOutcome.MISSED
    early = recording.onset is not None and trigger.at <= recording.onset
    return TrialOutcome.FALSE_TRIP if early else TrialOutcome.FOUND


def delay_of(recording: Recording, trigger: Trigger | None) -> timedelta | None:
    """Return the time from the onset to ``trigger``, None unless that found it and the onset is known."""
    if trigger is None or recording.onset is None or outcome_of(recording, trigger) is not TrialOutcome.FOUND:
        return None
    return trigger.at - recording.onset


@dataclass(frozen=True, slots=True)
class Record:
    """A recording as it is folded: its looks, and the rule with the versions of that time."""

    recording: Recording
    spec: RolloutSpec
    window: Window
    frame: Frame


def read_record(spec: RolloutSpec, recording: Recording) -> Record:
    """Read one recorded rollout; its window begins one step before the earliest sample.

    :raises SeriesError: it cannot be trusted; the message begins with the file.
    """
    names = {"release": recording.release, "baseline": recording.baseline}
    spec = spec.model_copy(update={name: version for name, version in names.items() if version is not None})
    samples = read_series(recording.path)
    times = {sample.time for sample in samples}
    window = Window(min(times) - spec.watch.step, min(times) - spec.watch.step + spec.window)
    if not any(sample.version in (spec.release, spec.baseline) for sample in samples):
        raise SeriesError(
            f"{recording.path}: no sample of {spec.release} or {spec.baseline}; name the versions of that "
            "rollout in labels.csv (columns release and baseline)"
        )
    try:
        frame = frame_of(spec, samples, start=window.start, end=min(max(times), window.end))
    except SeriesError as error:
        raise SeriesError(f"{recording.path}: {error}") from None
    return Record(recording, spec, window, frame)


def try_rule(record: Record) -> Trial:
    """Fold a recorded rollout to its end: the first breach of every budget, in any order."""
    spec = record.spec
    watched = to_the_end(spec)
    fold = Fold(watched, record.window)
    fold.fold(record.frame)
    evaluation, blind_at = fold.evaluation(), None
    if evaluation.verdict is VerdictKind.BLIND:
        blind_at = evaluation.evaluated_until
        fold = Fold(watched, record.window, watch_blind=False)
        fold.fold(record.frame)
        evaluation = fold.evaluation()
    triggers = {
        breach.budget: Trigger(
            budget=breach.budget,
            at=breach.breached_at,
            minute=(breach.breached_at - record.window.start) / timedelta(minutes=1),
            method=breach.method,
            p_value=breach.p_value,
            sentence=breach.sentence,
        )
        for breach in evaluation.breaches
    }
    stops = {
        budget.id for budget in spec.budgets if spec.decision.of(budget.tier).action is not Action.RECORD_ONLY
    }
    return Trial(
        recording=record.recording,
        start=record.window.start,
        until=evaluation.evaluated_until or record.window.start,
        triggers=tuple(triggers[budget.id] for budget in spec.budgets if budget.id in triggers),
        deciding=min(
            (trigger for trigger in triggers.values() if trigger.budget in stops),
            key=lambda trigger: trigger.at,
            default=None,
        ),
        blind_at=blind_at,
    )


def to_the_end(spec: RolloutSpec) -> RolloutSpec:
    """Return the rule with no tier that ends the watch, so that every budget shows its first breach."""
    decision = Decision(tier_a_breach=_RECORD_ONLY, tier_b_breach=_RECORD_ONLY, tier_c_breach=_RECORD_ONLY)
    return spec.model_copy(update={"decision": decision})


def trace_of(record: Record, trial: Trial) -> Trace:
    """Fold a recorded rollout look by look."""
    spec, frame = record.spec, record.frame
    fold = Fold(to_the_end(spec), record.window, watch_blind=False)
    points: list[list[TracePoint]] = [[] for _ in spec.budgets]
    for time in frame.times:
        fold.fold(Frame(frame.times, time, frame.arms))
        for evaluation, budget_points in zip(fold.evaluation().budgets, points, strict=True):
            delta = evaluation.look.delta if evaluation.look is not None else None
            budget_points.append(TracePoint(us_to_datetime(time), delta, evaluation.burn, evaluation.p_value))
    breached = {trigger.budget: trigger.at for trigger in trial.triggers}
    return Trace(
        title=f"{record.recording.name}: {spec.release} against {spec.baseline}",
        alpha=alpha_of(spec),
        onset=record.recording.onset,
        budgets=tuple(
            BudgetTrace(budget, tuple(budget_points), breached.get(budget.id))
            for budget, budget_points in zip(spec.budgets, points, strict=True)
        ),
    )
