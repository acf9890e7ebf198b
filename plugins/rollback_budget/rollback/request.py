"""Requesting a rollback: the final decision, then the target; once, whoever does it, and never held up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from rollback_budget.clock import Log, utc_now
from rollback_budget.exceptions import LedgerError, LedgerUnavailableError, TargetError
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.base import Frozen
from rollback_budget.rollback.bounded_call import NoAnswerError, call_within
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.targets.apply import DeadlineClock, Outcome, TrafficChange, request_traffic

if TYPE_CHECKING:
    from rollback_budget.engine.evaluation import Evaluation
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.views import Final
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.targets.base import Target

#: A rollback waits no longer than this for the ledger.
LEDGER_WAIT = timedelta(seconds=2)
#: It waits no longer than this for a stage that is being raised at this very moment.
STAGE_WAIT = timedelta(seconds=2)
#: A target that does not accept is asked again for this long; then the tasks of the rollout go on trying.
TARGET_WAIT = timedelta(seconds=10)
#: One request to the target may take this long, or less where the budget says so.
REQUEST_TIMEOUT = timedelta(seconds=4)
_STAGE_POLL_S = 0.05
_SETTLED = (Outcome.EFFECTIVE, Outcome.SUPERSEDED)


class RequestOutcome(StrEnum):
    """What became of a rollback that was requested."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not_accepted"
    SUPERSEDED = "superseded"
    PROMOTED = "promoted"
    SETTLED = "settled"


class RollbackRequest(Frozen):
    """What came of requesting a rollback; it travels from a trigger to the tasks.

    :param outcome: ``accepted`` also where the target already served so; ``promoted`` and ``settled`` when
        nothing was sent, because the rollout had ended so, or was rolled back and verified before.
    :param requested_at: when the target was first asked; None when it was not, or already served so.
    """

    outcome: RequestOutcome
    by: str
    reason: str
    requested_at: AwareDatetime | None = None
    control_plane: str = ""
    detail: str = ""

    def __str__(self) -> str:
        said = {
            RequestOutcome.ACCEPTED: "the rollback is requested, and the control plane accepted it",
            RequestOutcome.NOT_ACCEPTED: "the rollback is not accepted yet, the rollback task goes on trying",
            RequestOutcome.SUPERSEDED: "not rolled back, another client changed the traffic meanwhile",
            RequestOutcome.PROMOTED: "not rolled back, this rollout was promoted",
            RequestOutcome.SETTLED: "rolled back before, nothing is sent again",
        }[self.outcome]
        return f"{said}: {self.detail}" if self.detail else said


@dataclass(frozen=True)
class Verdict:
    """The verdict behind a rollback, to be kept in the ledger with the final decision.

    :param kind: whose verdict it is, ``watch`` or ``guard``.
    """

    evaluation: Evaluation
    round_: int
    kind: str


@dataclass(frozen=True)
class RollbackSender:
    """Requests rollbacks, of any rollout, from any thread.

    :param open_ledger: returns the ledger.
    :param open_target: opens the target of a spec, with a limit for one request.
    :param now: the clock.
    """

    open_ledger: Callable[[], Ledger]
    open_target: Callable[[RolloutSpec, timedelta], AbstractContextManager[Target]]
    log: Log
    now: Callable[[], datetime] = field(default=utc_now)

    def request(
        self,
        order: RollbackOrder,
        by: str,
        reason: str,
        verdict: Verdict | None = None,
        within: timedelta = TARGET_WAIT,
        after: str = "",
        *,
        recorded: bool = True,
    ) -> RollbackRequest:
        """Take the final decision "rolled back", ask the target to give the baseline everything; record it.

        Never raises. A ledger that does not answer holds up nothing; a promotion that it knows of, and a
        rollback that it knows to be settled, are left alone. Called twice, or by two processes at once, it
        has one effect.

        :param verdict: kept in the ledger before the decision is taken.
        :param within: for how long a target that does not accept is asked again.
        :param after: what changed the traffic after the rollback, as a part of an idempotency key: then it is
            asked for again, with a key of its own, also where it was verified before.
        :param recorded: False where others wait behind this one, and :meth:`record` is called later.
        """
        known = self._decide(order, by, reason, verdict)
        if known.final is not None and known.final.decision is FinalDecision.PROMOTED:
            return RollbackRequest(
                outcome=RequestOutcome.PROMOTED, by=by, reason=reason, detail=str(known.final)
            )
        if known.record is not None and known.record.outcome in _SETTLED and not after:
            return RollbackRequest(
                outcome=RequestOutcome.SETTLED,
                by=by,
                reason=reason,
                requested_at=known.record.requested_at,
                detail=known.record.detail,
            )
        if known.stage_until is not None:
            self._wait_for_stage(order, known.stage_until)
        change = order.change()
        if after:
            change = replace(change, idempotency_key=f"{change.idempotency_key}/after_{after}")
        asked = known.record is not None and known.record.requested_at is not None
        request = self._send(order, replace(change, asked=asked), by, reason, within)
        if recorded:
            self.record(order, request)
        return request

    def record(self, order: RollbackOrder, request: RollbackRequest) -> None:
        """Write into the ledger that a rollback was accepted; of any other outcome nothing."""
        if request.outcome is RequestOutcome.ACCEPTED and request.requested_at is not None:
            self._record(order, request, request.requested_at)

    def _decide(self, order: RollbackOrder, by: str, reason: str, verdict: Verdict | None) -> _Known:
        def decide() -> _Known:
            ledger, key = self.open_ledger(), order.rollout
            # Many may breach at once, and four connections would take longer than what is done on them.
            with ledger.database.one_transaction():
                if verdict is not None:
                    ledger.evaluations.add(key, verdict.round_, verdict.kind, verdict.evaluation, self.now())
                final = ledger.final_decisions.take(key, FinalDecision.ROLLED_BACK, by, reason, self.now())
                return _Known(final, ledger.rollbacks.of(key), ledger.stages.write_until(key))

        try:
            return call_within(LEDGER_WAIT, decide)
        except (LedgerUnavailableError, NoAnswerError) as error:
            self.log.warning("a rollback does not wait for the ledger: %s", error)
        except Exception:
            # Traffic goes back first; the task that records the rollback fails for it.
            logging.getLogger(__name__).exception(
                "the ledger refuses the final decision; the rollback goes on"
            )
        return _Known()

    def _wait_for_stage(self, order: RollbackOrder, until: datetime) -> None:
        """Let a stage that is being raised come to its end, so that it cannot land after the rollback."""
        give_up = min(until, self.now() + STAGE_WAIT)

        def wait() -> None:
            stages = self.open_ledger().stages
            while self.now() < give_up and stages.write_until(order.rollout) is not None:
                time.sleep(_STAGE_POLL_S)

        try:
            call_within(STAGE_WAIT, wait)
        except (LedgerError, NoAnswerError) as error:
            self.log.warning("a stage may be written at this moment, and the ledger cannot say: %s", error)

    def _send(
        self, order: RollbackOrder, change: TrafficChange, by: str, reason: str, within: timedelta
    ) -> RollbackRequest:
        assert order.spec.target is not None
        timeout = min(order.spec.target.request_timeout, REQUEST_TIMEOUT)
        try:
            with self.open_target(order.spec, timeout) as target:
                found = request_traffic(
                    target,
                    change,
                    within=within,
                    clock=DeadlineClock(self.now),
                    log=self._say,
                )
        except TargetError as error:
            return RollbackRequest(
                outcome=RequestOutcome.NOT_ACCEPTED, by=by, reason=reason, detail=str(error)
            )
        except Exception as error:
            # A third party's target may raise anything; the tasks try again, and fail loudly.
            logging.getLogger(__name__).exception("the target failed")
            return RollbackRequest(
                outcome=RequestOutcome.NOT_ACCEPTED,
                by=by,
                reason=reason,
                detail=f"the target failed: {type(error).__name__}",
            )
        outcome = RequestOutcome.ACCEPTED if found.accepted else RequestOutcome.NOT_ACCEPTED
        return RollbackRequest(
            outcome=RequestOutcome.SUPERSEDED if found.superseded else outcome,
            by=by,
            reason=reason,
            requested_at=found.requested_at,
            control_plane=found.control_plane,
            detail=found.problem,
        )

    def _say(self, line: str) -> None:
        self.log.info("%s", line)

    def _record(self, order: RollbackOrder, request: RollbackRequest, requested_at: datetime) -> None:
        def record() -> None:
            self.open_ledger().rollbacks.record_request(
                order.rollout,
                order.change().idempotency_key,
                requested_at,
                request.control_plane,
                f"{request}, not verified yet.",
            )

        try:
            call_within(LEDGER_WAIT, record)
        except (LedgerError, NoAnswerError) as error:
            self.log.warning("the rollback is requested, and recorded by a later task: %s", error)
        except Exception:
            # Whatever it is, the rollback was requested, and the event must say so.
            logging.getLogger(__name__).exception("the rollback is requested, and recorded by a later task")


@dataclass(frozen=True)
class _Known:
    """What the ledger says of a rollout when its rollback is decided; None is not known, or none."""

    final: Final | None = None
    record: RollbackRecord | None = None
    stage_until: datetime | None = None
