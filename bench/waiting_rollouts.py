"""Rollouts that are brought to the point where each waits for what is measured, and then let go."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from sqlalchemy import func, select

from demo.router import Change
from demo.waiting import DemoError, wait_for
from rollback_budget.common.commander_response import Choice
from rollback_budget.ledger.models import RollbackRow
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.targets.apply import Outcome
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER
from tests.stack.airflow_harness import BASELINE, Harness

#: An event this soon after a deferral is held back; what follows a task is measured without that.
PARKED_S = HOLD_AFTER_DEFER.total_seconds() + 1
#: Deadlines come one after another, the first one when every review is open and the disturbance is on.
FIRST_DEADLINE_S, MORE_FOR_EACH_S, NEXT_DEADLINE_S = 60, 5, 3
NEVER_S = 1800
#: A rollback that is requested later than this has failed.
REQUEST_S = 300.0
END_S = 900.0
_BUSY = {"scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule"}


class Kind(Enum):
    """What a rollback request follows; the value says it in words."""

    TIER_A = "tier A, verdict to request"
    ANSWER = "commander's answer to request"
    SILENCE = "silence, deadline to request"


class WaitingRollouts:
    """Services of one Airflow that are rolled out and rolled back again and again."""

    def __init__(self, harness: Harness, services: Sequence[str]) -> None:
        self._harness = harness
        self._services = services

    def ship(self, kind: Kind) -> None:
        """Bring every rollout to a watch, or to a review, that waits; then no task of theirs runs."""
        first_s = FIRST_DEADLINE_S + MORE_FOR_EACH_S * len(self._services)
        for number, service in enumerate(self._services):
            within = first_s + number * NEXT_DEADLINE_S if kind is Kind.SILENCE else NEVER_S
            decision = {"tier_b_breach": f"incident_commander_decision_within_{within}s"}
            self._harness.worsen(service, incident=0.0, handoff=0.05)
            self._harness.edit_budget(service, decision=decision)
            self._harness.trigger(service)
        for service in self._services:
            self._harness.reach(service, "round_1.watch", "deferred", timeout_s=300)
        if kind is not Kind.TIER_A:
            for service in self._services:
                self._harness.worsen(service, handoff=1.0)
            for service in self._services:
                self._harness.reach(service, "round_1.review", "deferred", timeout_s=300)
            # The first call of a triggerer's triggers to Airflow imports its API there, which takes seconds.
            time.sleep(PARKED_S)
        for service in self._services:
            wait_for(lambda: self._is_quiet(service), f"no task of {service} to run", timeout_s=300)  # noqa: B023

    def let_go(self, kind: Kind, *, tasks_run: bool = False) -> list[float]:
        """Let one after another go; return from what each rollback request followed to it, in seconds.

        :param tasks_run: whether the tasks behind a rollback can run; then each waits for those of the one
            before, whose processes would have the machine's cores.
        """
        if kind is Kind.SILENCE and time.time() > self._deadline(self._services[0]):
            raise DemoError("the first deadline came before the disturbance; raise MORE_FOR_EACH_S")
        found = []
        for service in self._services:
            since = self._release(kind, service)
            requested = self._wait_for_request(service)
            found.append(requested - (self._verdict_at(service) if kind is Kind.TIER_A else since))
            if tasks_run and kind is not Kind.SILENCE:
                self._harness.end(service, timeout_s=END_S)
        return found

    def let_go_at_once(self) -> list[float]:
        """Let all go at the same moment; return from the verdict to each request, in seconds."""
        for service in self._services:
            self._release(Kind.TIER_A, service)
        return [self._wait_for_request(service) - self._verdict_at(service) for service in self._services]

    def end(self) -> list[str]:
        """Wait for the end of every rollout; return what is not as it must be, a line each."""
        problems = []
        for service in self._services:
            state = self._harness.end(service, timeout_s=END_S)
            said = [] if state == "success" else [f"its run has {state}"]
            final, sent = self._harness.final(service), len(self._rollbacks(service))
            record = self._harness.ledger.rollbacks.of(self._harness.key(service))
            outcome = None if record is None else record.outcome
            if final is not FinalDecision.ROLLED_BACK:
                said.append(f"the final decision is {final}")
            if sent != 1:
                said.append(f"{sent} requests changed the traffic")
            if self._recorded(service) != 1 or outcome is not Outcome.EFFECTIVE:
                said.append(f"{self._recorded(service)} rollbacks in the ledger, the latest {outcome}")
            problems += [f"{service}: {one}" for one in said]
        return problems

    def _is_quiet(self, service: str) -> bool:
        return not _BUSY & set(self._harness.states(service).values())

    def _release(self, kind: Kind, service: str) -> float:
        """Make happen what is waited for; return when it did, or will."""
        if kind is Kind.SILENCE:
            return self._deadline(service)
        now = time.time()
        if kind is Kind.TIER_A:
            self._harness.worsen(service, incident=1.0)
        else:
            self._harness.answer(service, Choice.ROLL_BACK, "no more of this").raise_for_status()
        return now

    def _deadline(self, service: str) -> float:
        [review] = self._harness.ledger.reviews.of(self._harness.key(service))
        return review.deadline.timestamp()

    def _wait_for_request(self, service: str) -> float:
        """Return when the service was asked to give the baseline everything."""
        what = f"the rollback of {service}"
        found = wait_for(lambda: self._rollbacks(service), what, timeout_s=REQUEST_S, every_s=0.05)
        return found[0].at

    def _rollbacks(self, service: str) -> list[Change]:
        shipped = self._harness.rollout(service).shipped_at
        assert shipped is not None
        changes = self._harness.services[service].router.changes
        return [one for one in changes if one.at > shipped.timestamp() and one.weights[BASELINE] == 1]

    def _recorded(self, service: str) -> int:
        database = self._harness.ledger.database
        with database.read() as session:
            rollout = rollout_row(database, session, self._harness.key(service))
            count = select(func.count()).where(RollbackRow.rollout_id == rollout.id)
            return session.scalar(count) or 0

    def _verdict_at(self, service: str) -> float:
        """Return when the trigger of the service's watch came to its verdict, from its log."""
        key = self._harness.key(service)
        folder = self._harness.stack.logs / "tasks" / f"dag_id={key.dag_id}" / f"run_id={key.run_id}"

        def first() -> str | None:
            lines = (
                json.loads(line)
                for log in (folder / "task_id=round_1.watch").glob("*.trigger.*")
                for line in log.read_text().splitlines()
            )
            return next(
                (line["timestamp"] for line in lines if line["event"].startswith("the verdict is ")), None
            )

        found = wait_for(first, f"the verdict of {service} in its log", timeout_s=30)
        return datetime.fromisoformat(found or "").timestamp()
