"""The notifications of a rollout: plain sentences, made of data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rollback_budget.common.config import link_to_run, path_of_run
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.notify import Event
from rollback_budget.model.spec import RolloutSpec

_HEADLINES = {
    Event.BREACH: "budget breached",
    Event.BLIND: "the watch is blind",
    Event.REVIEW_OPENED: "your decision is needed",
    Event.DEADLINE_NEAR: "half of the time to decide is over",
    Event.DECIDED: "decided",
    Event.ROLLED_BACK: "rolled back",
    Event.VERIFICATION_FAILED: "the rollback is NOT proven, the on-call engineer must look now",
    Event.PROMOTED: "promoted",
    Event.WATCH_LOST: "Airflow does not watch any more, standby does",
    Event.WATCH_BACK: "Airflow watches again",
    Event.DEBT_DUE: "an eval debt falls due",
    Event.DEBT_OVERDUE: "an eval debt is overdue",
    Event.DEBT_BACKLOG: "what is owed",
}
_CRITICAL = {
    Event.BREACH,
    Event.REVIEW_OPENED,
    Event.DEADLINE_NEAR,
    Event.VERIFICATION_FAILED,
    Event.WATCH_LOST,
    Event.DEBT_OVERDUE,
}


@dataclass(frozen=True)
class Notification:
    """One message, for every notifier.

    :param occasion: what makes it one and the same message, however often it is tried.
    :param deadline: until when the commander has to decide; None when there is nothing to decide.
    """

    event: Event
    occasion: str
    key: RolloutKey
    spec: RolloutSpec
    sentence: str
    deadline: datetime | None = None

    @property
    def subject(self) -> str:
        """The message in one line."""
        return f"{self.spec.release} ({self.spec.service}): {_HEADLINES[self.event]}"

    @property
    def text(self) -> str:
        """The whole message, as plain text."""
        lines = [self.subject, self.sentence]
        if self.deadline is not None:
            lines.append(f"Deadline: {self.deadline:%Y-%m-%d %H:%M:%S} UTC")
        return "\n".join([*lines, run_link(self.key)])

    @property
    def severity(self) -> str:
        """``critical`` where a person has to act, else ``info``."""
        return "critical" if self.event in _CRITICAL else "info"

    @property
    def details(self) -> dict[str, str | None]:
        """The message for programs."""
        return {
            "event": self.event.value,
            "occasion": self.occasion,
            "service": self.spec.service,
            "release": self.spec.release,
            "baseline": self.spec.baseline,
            "dag_id": self.key.dag_id,
            "run_id": self.key.run_id,
            "sentence": self.sentence,
            "deadline": None if self.deadline is None else self.deadline.isoformat(),
            "link": run_link(self.key),
        }


def run_link(key: RolloutKey) -> str:
    """Return where Airflow shows the run; on this host where the deployment does not say its address."""
    return link_to_run(key) or f"http://localhost:8080/{path_of_run(key)}"
