"""What the ledger hands out: frozen views of its rows. Every time is aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.engine.evaluation import Breach, Evaluation, Status
from rollback_budget.engine.suspension import Suspension
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.decision import OnTimeout
from rollback_budget.model.label import Label
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.rollback_terms import RollbackTerms


class FinalDecision(StrEnum):
    """How a rollout ended; taken once, never changed."""

    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"


@dataclass(frozen=True, slots=True)
class Final:
    """The final decision of a rollout: what, by whom, why, when."""

    decision: FinalDecision
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout, with the spec it runs on.

    :param terms: how we may move its traffic back; None when that is not ours, and before it shipped.
    """

    key: RolloutKey
    spec: RolloutSpec
    opened_at: datetime
    shipped_at: datetime | None
    window_end: datetime | None
    final: Final | None
    terms: RollbackTerms | None = None


@dataclass(frozen=True, slots=True)
class LoggedEvaluation:
    """What a watch (or the guard beside a review) said in one round."""

    round: int
    kind: str
    evaluation: Evaluation
    at: datetime


@dataclass(frozen=True, slots=True)
class LoggedLook:
    """One look at one budget, to six digits; None is unknown.

    :param delta: in the unit of the budget's comparison.
    :param suspended: whether the budget was suspended, so that the look added to nothing.
    """

    budget: str
    time: datetime
    status: Status
    burn: timedelta
    delta: float | None
    release_value: float | None
    baseline_value: float | None
    release_n: float | None
    baseline_n: float | None
    p_value: float | None
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class LoggedBreach:
    """A breach as it stands in the ledger, with what names it and the debt it makes."""

    fingerprint: str
    debt_fingerprint: str
    key: RolloutKey
    service: str
    release: str
    baseline: str
    breach: Breach
    logged_at: datetime


@dataclass(frozen=True, slots=True)
class CommanderDecision:
    """An answer to a review; ``by`` is None when there was no answer in time."""

    round: int
    option: str
    by: str | None
    reason: str | None
    at: datetime
    timed_out: bool


@dataclass(frozen=True, slots=True)
class RecordedOverride:
    """A commander's decision to go on: who, when, why, for which budgets, until when."""

    round: int
    budget_ids: tuple[str, ...]
    by: str
    reason: str
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage (counted from 1) that has begun: the release's fraction of traffic, and since when."""

    stage: int
    share: float
    at: datetime


@dataclass(frozen=True, slots=True)
class RollbackRecord:
    """What came of a rollback; one row per idempotency key.

    :param outcome: None while it is still under way.
    :param control_plane: what the control plane said last.
    :param data_plane: what the traffic said last.
    """

    idempotency_key: str
    outcome: Outcome | None
    requested_at: datetime | None
    verified_at: datetime | None
    control_plane: str = ""
    data_plane: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a suspension holds for: one rollout, every one of a DAG, or every one of a release or service.

    :param run_id: with ``dag_id``; None for every run of it.
    :param name: a release's or a service's.
    """

    dag_id: str | None = None
    run_id: str | None = None
    name: str | None = None

    def includes(self, key: RolloutKey | None, spec: RolloutSpec) -> bool:
        """Whether the rollout ``key`` (None: one without a key) of ``spec`` is meant."""
        if self.dag_id is None:
            return self.name in (spec.release, spec.service)
        return key is not None and self.dag_id == key.dag_id and self.run_id in (None, key.run_id)

    def __str__(self) -> str:
        if self.dag_id is None:
            return f"every rollout of {self.name}"
        return f"every run of {self.dag_id}" if self.run_id is None else f"{self.dag_id} {self.run_id}"


@dataclass(frozen=True, slots=True)
class LoggedSuspension:
    """A suspension as it stands in the ledger.

    :param suspension: what the engine goes by; it ends where it was ended early.
    :param planned_until: the end it was given at first.
    """

    id: int
    scope: Scope
    suspension: Suspension
    planned_until: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None
    ended_reason: str | None = None

    def is_active(self, now: datetime) -> bool:
        """Whether it holds now."""
        return self.suspension.since <= now < self.suspension.until


@dataclass(frozen=True, slots=True)
class Review:
    """A question to the incident commander.

    :param opened_at: when the verdict made it necessary.
    :param on_timeout: what silence leads to at the deadline.
    :param asked_at: since when an answer can be given in Airflow; None before that.
    """

    round: int
    opened_at: datetime
    deadline: datetime
    on_timeout: OnTimeout
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SentNotification:
    """A message about a rollout; ``sent_at`` is None while it is under way or when it failed.

    :param occasion: what it was about, for example ``review_opened 1``.
    :param notifier: to whom, as the budget file numbers and names it.
    """

    occasion: str
    notifier: str
    claimed_at: datetime
    sent_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedLabel:
    """How a rollout really went, as a person said afterwards.

    :param onset: when a bad one went bad; None when not known, and for a good one.
    :param note: in the person's words; may be empty.
    """

    label: Label
    onset: datetime | None
    by: str
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StandbyWatch:
    """A time in which standby watched a rollout in place of Airflow, by the times of its looks."""

    since: datetime
    until: datetime


#: Something that happened in a rollout.
HistoryEvent = (
    LoggedEvaluation
    | LoggedBreach
    | StageRecord
    | Review
    | CommanderDecision
    | RecordedOverride
    | LoggedSuspension
    | SentNotification
    | RollbackRecord
    | StandbyWatch
    | Final
    | LoggedLabel
)
