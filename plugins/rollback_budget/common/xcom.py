"""What the tasks of one run pass to one another: task ids, XCom keys and their types, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime

from rollback_budget.engine.evaluation import Breach, Evaluation
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.base import Frozen
from rollback_budget.model.choice import SILENCE
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.rollback.request import RequestOutcome, RollbackRequest
from rollback_budget.targets.apply import Outcome
from rollback_budget.watch.watch_plan import Override

if TYPE_CHECKING:
    from airflow.sdk import Context

ANSWER_KEY = "answer"
ASKED_UNTIL_KEY = "asked_until"
BASELINE_KEY = "baseline"
DEADLINE_KEY = "review_deadline"
REPORT_KEY = "report"
REQUEST_KEY = "rollback_request"
SURVEY_KEY = "survey"


@dataclass(frozen=True)
class Tasks:
    """The task ids of a rollout; ``prefix`` is that of the task group around it."""

    prefix: str = ""

    def id(self, name: str) -> str:
        """Return the full id of a task outside the rounds."""
        return f"{self.prefix}{name}"

    def in_round(self, round_: int, name: str) -> str:
        """Return the full id of a task of round ``round_`` (counted from 1)."""
        return f"{self.prefix}round_{round_}.{name}"


class Shipment(Frozen):
    """What was shipped: the window it opened, and the shares of traffic it left behind (None: not known)."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    shares: dict[str, float] | None = None


class ReviewAnswer(Frozen):
    """What came of a review.

    :param by: the commander's user name; None when the deadline decided; who ended the rollout otherwise when
        that made the question pointless.
    :param budgets: the budgets that the question was about.
    :param until: until when an override holds; None when it is none, or from a version without it.
    :param mute: whether the budgets are suspended until then.
    :param promote: whether the commander ends the watch and promotes.
    """

    round_: int
    option: str
    go_on: bool
    by: str | None
    reason: str | None
    at: AwareDatetime
    budgets: tuple[str, ...] = ()
    until: AwareDatetime | None = None
    mute: bool = False
    promote: bool = False

    @property
    def author(self) -> str:
        """Return who decided, in words."""
        return self.by or SILENCE


class RollbackReport(Frozen):
    """What came of a rollback, as it travels to the task that writes it down."""

    outcome: Outcome
    requested_at: AwareDatetime | None
    verified_at: AwareDatetime | None
    control_plane: str
    data_plane: str
    detail: str
    by: str
    reason: str
    release_serves: bool = False
    baseline_troubles: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What came of it, what both planes say, and what to do about it."""
        planes = f"Control plane: {self.control_plane}. Data plane: {self.data_plane}."
        return f"{self.outcome.value}: {self.detail} {planes} {self.outcome.next_step}"

    @property
    def is_settled(self) -> bool:
        """Whether no page is needed: the release is out, by this rollback or by a newer change."""
        if self.outcome is Outcome.SUPERSEDED:
            return not self.release_serves
        return self.outcome is Outcome.EFFECTIVE


class RollbackContext(Frozen):
    """Why a rollout is rolled back, for the operators that do it.

    :param verdict: ``breach`` or ``blind``; None when the watch gave none.
    :param by: the commander, ``the deadline`` or ``the rule``.
    :param shares: the traffic that a rollback leaves, by version.
    :param idempotency_key: the same for every try.
    """

    release: str
    baseline: str
    service: str
    verdict: str | None
    sentence: str
    by: str
    reason: str
    shares: dict[str, float]
    idempotency_key: str
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True)
class RolloutXcom:
    """Reads what other tasks of this run left in XCom."""

    tasks: Tasks
    context: Context

    @property
    def key(self) -> RolloutKey:
        """The rollout's key in the ledger."""
        run = self.context["dag_run"]
        return RolloutKey(run.dag_id, run.run_id)

    def spec(self) -> RolloutSpec:
        """Return the spec that preflight froze."""
        return RolloutSpec.model_validate_json(self.pull(self.tasks.id("preflight")))

    def shipment(self) -> Shipment | None:
        """Return what was shipped; None when nothing was."""
        value = self.pull(self.tasks.id("ship"))
        return None if value is None else Shipment.model_validate(value)

    def evaluation(self, round_: int, task: str = "watch") -> Evaluation | None:
        """Return the verdict of a round's watch or guard; None when it gave none."""
        value = self.pull(self.tasks.in_round(round_, task))
        return None if value is None else Evaluation.model_validate(value)

    def answers(self, before: int) -> list[ReviewAnswer]:
        """Return the commander's answers of the rounds before round ``before``."""
        values = [self.pull(self.tasks.in_round(round_, "review"), ANSWER_KEY) for round_ in range(1, before)]
        return [ReviewAnswer.model_validate(value) for value in values if value is not None]

    def overrides(self, before: int) -> tuple[Override, ...]:
        """Return the overrides of the rounds before round ``before``."""
        return tuple(
            Override(at=answer.at, budgets=answer.budgets) for answer in self.answers(before) if answer.go_on
        )

    def asked_until(self, round_: int) -> datetime | None:
        """Return the deadline of a round's question as the watch set it; None when it set none."""
        value = self.pull(self.tasks.in_round(round_, "watch"), ASKED_UNTIL_KEY)
        return None if value is None else datetime.fromisoformat(value)

    def rollback_requested_at(self, rounds: int) -> datetime | None:
        """Return when a trigger of this run got the rollback accepted; None when none did."""
        for round_ in range(rounds, 0, -1):
            for task in ("review", "guard", "watch"):
                value = self.pull(self.tasks.in_round(round_, task), REQUEST_KEY)
                if value is not None:
                    request = RollbackRequest.model_validate(value)
                    if request.outcome is RequestOutcome.ACCEPTED and request.requested_at is not None:
                        return request.requested_at
        return None

    def pull(self, task_id: str, key: str = "return_value") -> Any:
        """Return what the task with this full id left under ``key``."""
        return self.context["ti"].xcom_pull(task_ids=task_id, key=key)
