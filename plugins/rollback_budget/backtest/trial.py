"""Trials: one recorded rollout under one rule, its outcome, and its trace for a chart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.backtest.extent import Extent, doubts_of, extent_of
from rollback_budget.backtest.recording import Recording
from rollback_budget.engine import Evaluation, Fold, Frame, VerdictKind, Window, frame_of
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.record_span import Spans, as_of_record, spans_of, start_of_record
from rollback_budget.engine.sample_columns import frame_of_columns
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.engine.trace import BudgetTrace, Trace, TracePoint
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Method
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.label import Label
from rollback_budget.model.method_plan import alpha_of, tested_budgets
from rollback_budget.model.spec import RolloutSpec

_RECORD_ONLY = TierDecision(action=Action.RECORD_ONLY)


class TrialOutcome(StrEnum):
    """What a rule did to a rollout, seen from how the rollout went."""

    FOUND = "found"
    MISSED = "missed"
    FALSE_TRIP = "false trip"
    KEPT = "kept"
    TRIPPED = "tripped"
    QUIET = "quiet"
    UNDECIDED = "undecided"


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
    :param extent: from when to when it was tried.
    :param untried: budgets that could not be tried on it, by id, each with the reason.
    :param ends_early: whether the recording ends before the window, and is not the whole rollout.
    :param stopping: budgets of the rule that stop a rollout, by id, also those that could not be tried.
    """

    recording: Recording
    start: datetime
    until: datetime
    triggers: tuple[Trigger, ...]
    deciding: Trigger | None
    blind_at: datetime | None
    extent: Extent
    untried: Mapping[str, str] = field(default_factory=dict)
    ends_early: bool = False
    stopping: frozenset[str] = frozenset()

    @property
    def is_partial(self) -> bool:
        """Whether one of the untried budgets would have stopped the rollout."""
        return not self.stopping.isdisjoint(self.untried)

    @property
    def is_open(self) -> bool:
        """Whether the rule, where it did not trip, might have: more would have come, or was not tried."""
        return self.ends_early or self.is_partial

    @property
    def outcome(self) -> TrialOutcome:
        """What the rule as a whole did."""
        return outcome_of(self.recording, self.deciding, is_open=self.is_open)

    @property
    def delay(self) -> timedelta | None:
        """Time from the onset to the rollback, None unless the rule found a bad rollout of known onset."""
        return delay_of(self.recording, self.deciding)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the recording or its label lies outside of what was tried, a sentence each."""
        return tuple(doubts_of(self.recording, self.extent))

    def without(self, untried: Mapping[str, str]) -> Trial:
        """Return what the rule did without these budgets, by id, each with the reason."""
        if untried.keys() <= self.untried.keys():
            return self
        triggers = tuple(trigger for trigger in self.triggers if trigger.budget not in untried)
        deciding = _deciding(triggers, self.stopping)
        return replace(self, triggers=triggers, deciding=deciding, untried={**self.untried, **untried})


def outcome_of(recording: Recording, trigger: Trigger | None, *, is_open: bool = False) -> TrialOutcome:
    """Return the outcome of ``trigger``, or of none; a trip before a bad rollout went bad is a false trip.

    :param is_open: whether no trip does not mean that there would have been none.
    """
    if trigger is None and is_open:
        return TrialOutcome.UNDECIDED
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
    """A recording as it is folded: its looks, and the rule with the versions of that time.

    :param untried: budgets that cannot be tried on it, by id, each with the reason.
    """

    recording: Recording
    spec: RolloutSpec
    window: Window
    frame: Frame
    extent: Extent
    untried: Mapping[str, str] = field(default_factory=dict)


def read_record(spec: RolloutSpec, recording: Recording) -> Record:
    """Read one recorded rollout; its window begins one look before the earliest sample, if it does not say.

    :raises SeriesError: it cannot be trusted; the message begins with its place.
    """
    names = {"release": recording.release, "baseline": recording.baseline}
    spec = spec.model_copy(update={name: version for name, version in names.items() if version is not None})
    try:
        record = _by_columns(spec, recording)
        return _by_rows(spec, recording) if record is None else record
    except SeriesError as error:
        said = str(error)
        raise SeriesError(
            said if said.startswith(recording.place) else f"{recording.place}: {said}"
        ) from None


def _by_columns(spec: RolloutSpec, recording: Recording) -> Record | None:
    """Read a recording whose samples come by columns; None where they do not, or something is unusual."""
    columns = recording.columns()
    if columns is None:
        return None
    spans = columns.spans()
    window, end = _window(spec, recording, spans, columns.version_names)
    frame = frame_of_columns(spec, columns, start=window.start, end=end, as_of=as_of_record(spec, spans))
    if frame is None:
        return None
    extent = extent_of(spec, window, spans)
    return Record(recording, spec, window, frame, extent, recording.untried(spec))


def _by_rows(spec: RolloutSpec, recording: Recording) -> Record:
    samples = recording.samples()
    spans = spans_of(samples)
    window, end = _window(spec, recording, spans, {sample.version for sample in samples})
    frame = frame_of(spec, samples, start=window.start, end=end, as_of=as_of_record(spec, spans))
    extent = extent_of(spec, window, spans)
    return Record(recording, spec, window, frame, extent, recording.untried(spec))


def _window(
    spec: RolloutSpec, recording: Recording, spans: Spans, versions: Collection[str]
) -> tuple[Window, datetime]:
    """Return the window, and up to where of it there are samples."""
    start = start_of_record(spec, spans) if recording.start is None else recording.start
    window = Window(start, start + spec.window)
    if spec.release not in versions and spec.baseline not in versions:
        raise SeriesError(
            f"no sample of {spec.release} or {spec.baseline}; name the versions of that rollout in labels.csv"
            " (columns release and baseline)"
        )
    return window, min(max(last for _, last in spans.values()), window.end)


def try_rule(record: Record) -> Trial:
    """Fold a recorded rollout to its end: the first breach of every budget, in any order."""
    spec = tried_part(record.spec, record.untried)
    watched = to_the_end(spec)
    evaluation, blind_at = _fold(record, watched), None
    if evaluation.verdict is VerdictKind.BLIND:
        blind_at = evaluation.evaluated_until
        evaluation = _fold(record, watched, watch_blind=False)
    of_budget = {
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
    triggers = tuple(of_budget[budget.id] for budget in spec.budgets if budget.id in of_budget)
    stopping = frozenset(
        budget.id
        for budget in record.spec.budgets
        if record.spec.decision.of(budget.tier).action is not Action.RECORD_ONLY
    )
    return Trial(
        recording=record.recording,
        start=record.window.start,
        until=evaluation.evaluated_until or record.window.start,
        triggers=triggers,
        deciding=_deciding(triggers, stopping),
        blind_at=blind_at,
        extent=record.extent,
        untried=record.untried,
        ends_early=not record.recording.is_whole and not evaluation.final,
        stopping=stopping,
    )


def _deciding(triggers: Sequence[Trigger], stopping: Collection[str]) -> Trigger | None:
    stops = (trigger for trigger in triggers if trigger.budget in stopping)
    return min(stops, key=lambda trigger: trigger.at, default=None)


def _fold(record: Record, watched: RolloutSpec, *, watch_blind: bool = True) -> Evaluation:
    fold = Fold(watched, record.window, watch_blind=watch_blind)
    fold.suspend(record.recording.suspensions)
    evaluation = fold.fold(record.frame)
    return fold.evaluation() if evaluation is None else evaluation


def tried_part(spec: RolloutSpec, untried: Mapping[str, str]) -> RolloutSpec:
    """Return the rule without the budgets that cannot be tried; the others keep their share of alpha."""
    if not untried:
        return spec
    rest = spec.model_copy(
        update={"budgets": tuple(budget for budget in spec.budgets if budget.id not in untried)}
    )
    alpha = alpha_of(spec) * max(tested_budgets(rest), 1)
    return rest.model_copy(update={"analysis": spec.analysis.model_copy(update={"alpha": alpha})})


def to_the_end(spec: RolloutSpec) -> RolloutSpec:
    """Return the rule with no tier that ends the watch, so that every budget shows its first breach."""
    decision = Decision(tier_a_breach=_RECORD_ONLY, tier_b_breach=_RECORD_ONLY, tier_c_breach=_RECORD_ONLY)
    return spec.model_copy(update={"decision": decision})


def trace_of(record: Record, trial: Trial) -> Trace:
    """Fold a recorded rollout look by look."""
    spec, frame = tried_part(record.spec, record.untried), record.frame
    fold = Fold(to_the_end(spec), record.window, watch_blind=False)
    fold.suspend(record.recording.suspensions)
    points: list[list[TracePoint]] = [[] for _ in spec.budgets]
    places = {budget.id: place for place, budget in enumerate(spec.budgets)}

    def note(_clock: int, snapshots: Sequence[BudgetSnapshot]) -> None:
        for one in snapshots:
            delta = one.look.comparand().delta
            burn = timedelta(microseconds=one.burn)
            point = TracePoint(us_to_datetime(one.look.time), delta, burn, one.p_value)
            points[places[one.budget]].append(point)

    fold.fold(frame, note)
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
