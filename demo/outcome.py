"""How a rollout of the demo ended, in figures, and whether that is what the rule demands."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from demo.scenarios import BASELINE, Scenario
from demo.service import SimulatedService
from demo.stack import COMMANDER
from rollback_budget.engine import VerdictKind
from rollback_budget.ledger.debt_views import Debt, TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision, LoggedBreach, RollbackRecord
from rollback_budget.model.budget import Tier
from rollback_budget.model.watch_settings import Watch
from rollback_budget.targets.apply import Outcome
from rollback_budget.text import plural


@dataclass(frozen=True)
class Commanding:
    """The commander's answer: when it was asked for, and when it was given."""

    asked_at: datetime
    answered_at: datetime


@dataclass(frozen=True)
class RolloutOutcome:
    """What the ledger, the service and Airflow say about one rollout.

    :param verdict: of the watch; None when it gave none.
    :param requested_at: when the service got the rollback request, by the service's own clock.
    :param release_requests: requests that the release still got after the end was verified.
    """

    scenario: Scenario
    key: RolloutKey
    run_state: str
    watch: Watch
    verdict: VerdictKind | None
    final: Final | None
    breaches: tuple[LoggedBreach, ...]
    rollback: RollbackRecord | None
    commanding: Commanding | None
    debts: tuple[Debt, ...]
    requested_at: datetime | None
    applied: dict[str, float]
    release_requests: int

    @property
    def available_at(self) -> datetime | None:
        """When the breaching sample could first be read: the end of its bucket, and the settle time."""
        if not self.breaches:
            return None
        return min(logged.breach.breached_at for logged in self.breaches) + self.watch.settle

    @property
    def seconds_to_request(self) -> float | None:
        """From the breaching sample being available to the rollback request at the service."""
        return _seconds(self.available_at, self.requested_at)

    @property
    def seconds_to_verified(self) -> float | None:
        """From the breaching sample being available to the verified rollback."""
        return _seconds(self.available_at, None if self.rollback is None else self.rollback.verified_at)

    @property
    def seconds_in_review(self) -> float | None:
        """From the review being open to the commander's answer; part of the two above."""
        return (
            None
            if self.commanding is None
            else _seconds(self.commanding.asked_at, self.commanding.answered_at)
        )

    def problems(self) -> Iterator[str]:
        """Yield everything that is not as the rule demands."""
        expected = self.scenario.decision
        wanted = VerdictKind.BREACH if self.scenario.tier else VerdictKind.HEALTHY
        if self.verdict is not wanted:
            yield f"its verdict is {self.verdict}, not {wanted}"
        if self.run_state != "success":
            yield f"its run is {self.run_state}"
        if self.final is None or self.final.decision is not expected:
            found = "undecided" if self.final is None else self.final.decision.value
            yield f"it is {found}, not {expected.value}"
        tiers = {logged.breach.tier for logged in self.breaches}
        if tiers != ({self.scenario.tier} if self.scenario.tier else set()):
            yield f"breaches of tiers {sorted(tiers)}"
        served = self.scenario.release if expected is FinalDecision.PROMOTED else BASELINE
        if {version for version, weight in self.applied.items() if weight} != {served}:
            yield f"the traffic is {self.applied}, not all on {served}"
        if expected is FinalDecision.ROLLED_BACK:
            yield from self._rollback_problems()

    def _rollback_problems(self) -> Iterator[str]:
        if self.rollback is None or self.rollback.outcome is not Outcome.EFFECTIVE:
            yield f"the rollback is {None if self.rollback is None else self.rollback.outcome}, not effective"
        if self.requested_at is None:
            yield "the service never got a rollback request"
        if self.release_requests:
            requests = plural(self.release_requests, "request")
            yield f"the release got {requests} after its rollback was verified"
        if self.scenario.tier is Tier.B and (self.final is None or self.final.by != COMMANDER):
            yield f"it was not {COMMANDER} who decided: {self.final}"
        filed = {
            debt.fingerprint for debt in self.debts if debt.ticket and debt.ticket.state is TicketState.FILED
        }
        owed = {logged.debt_fingerprint for logged in self.breaches}
        if not owed or owed - filed:
            yield f"eval debt is not filed: {sorted(owed - filed) or 'none is owed'}"

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON data."""
        return {
            "rollout": self.scenario.name,
            "dag_id": self.key.dag_id,
            "run_id": self.key.run_id,
            "verdict": self.verdict,
            "decision": None if self.final is None else self.final.decision.value,
            "decided_by": None if self.final is None else self.final.by,
            "breaches": [logged.breach.sentence for logged in self.breaches],
            "poll_s": self.watch.poll.total_seconds(),
            "sample_to_request_s": self.seconds_to_request,
            "sample_to_verified_s": self.seconds_to_verified,
            "review_s": self.seconds_in_review,
            "debts": [debt.ticket.key if debt.ticket else None for debt in self.debts],
            "problems": list(self.problems()),
        }


def read_outcome(
    scenario: Scenario,
    key: RolloutKey,
    run_state: str,
    *,
    ledger: Ledger,
    service: SimulatedService,
    requests: Path,
    commanding: Commanding | None,
) -> RolloutOutcome:
    """Collect what is known about a rollout whose run is over."""
    rollout = ledger.rollouts.get(key)
    breaches = tuple(ledger.breaches.of(key)) if rollout else ()
    evaluations = ledger.evaluations.of(key) if rollout else []
    rollback = ledger.rollbacks.of(key) if rollout else None
    owed = {logged.debt_fingerprint for logged in breaches}
    return RolloutOutcome(
        scenario=scenario,
        key=key,
        run_state=run_state,
        watch=Watch() if rollout is None else rollout.spec.watch,
        verdict=evaluations[-1].evaluation.verdict if evaluations else None,
        final=None if rollout is None else rollout.final,
        breaches=breaches,
        rollback=rollback,
        commanding=commanding,
        debts=tuple(debt for debt in ledger.debts.every() if debt.fingerprint in owed),
        requested_at=_request_at(service, rollback),
        applied=service.router.applied,
        release_requests=_requests_after(requests, scenario.release, rollback),
    )


def _request_at(service: SimulatedService, rollback: RollbackRecord | None) -> datetime | None:
    for change in service.router.changes:
        if rollback is not None and change.idempotency_key == rollback.idempotency_key:
            return datetime.fromtimestamp(change.at).astimezone()
    return None


def _requests_after(requests: Path, release: str, rollback: RollbackRecord | None) -> int:
    if rollback is None or rollback.verified_at is None:
        return 0
    with closing(sqlite3.connect(requests)) as connection:
        statement = "SELECT count(*) FROM requests WHERE version = ? AND ts > ?"
        found = connection.execute(statement, (release, rollback.verified_at.timestamp())).fetchone()
    return int(found[0])


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start) / timedelta(seconds=1)
