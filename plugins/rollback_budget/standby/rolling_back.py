"""Rolling one rollout back from a standby: the final decision in the ledger, the request, the proof."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision
from rollback_budget.model.notify import Event
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.rollback.request import RequestOutcome, RollbackRequest, RollbackSender, Verdict
from rollback_budget.rollback.verify import MOST_PROOFS, VerifiedRollback, verify_rollback
from rollback_budget.standby.daemon_thread import in_daemon_thread
from rollback_budget.standby.situation import Situation
from rollback_budget.standby.tools import RolloutLog, StandbyTools
from rollback_budget.standby.verdict_record import record_verdict
from rollback_budget.targets.apply import DeadlineClock, Outcome

#: A target that did not accept is asked again after this time, for as long as the lease is ours.
PAUSE_S = 5.0
#: It is asked for this long at a time, before it is paged.
WITHIN = timedelta(seconds=10)


def _pause(seconds: float) -> None:
    """Wait by the monotonic clock, whatever is done to the time of day of this host."""
    threading.Event().wait(seconds)


#: Sends a message: event, occasion, sentence.
Say = Callable[[Event, str, str], None]


class LeaseLostError(RollbackBudgetError):
    """Another standby may hold the lease of this rollout by now: nothing is done any more."""


class RollingBack:
    """Rolls one rollout back, and verifies it, while a lease holds.

    :param holder: of the lease.
    :param once: ask the target once, do not wait.
    """

    def __init__(
        self, tools: StandbyTools, key: RolloutKey, holder: str, log: RolloutLog, say: Say, *, once: bool
    ) -> None:
        self._tools = tools
        self._key = key
        self._holder = holder
        self._log = log
        self._say = say
        self._once = once

    def check_lease(self, ledger: Ledger) -> None:
        """Raise :class:`LeaseLostError` unless the lease is ours, by the ledger's clock; or LedgerError."""
        lease = ledger.watch_leases.of(self._key)
        if lease is None or lease.holder != self._holder or not lease.is_valid:
            raise LeaseLostError("the lease has run out, or another standby holds it")

    async def run(self, situation: Situation, by: str, reason: str, verdict: Verdict | None = None) -> bool:
        """Roll back; return whether nothing is left to do, by anybody but people.

        Nothing is sent before the ledger has taken the final decision.

        :param verdict: what leads to it; None when it was decided before, or by a person.
        """
        final = await self._decide(by, reason, verdict)
        if final.decision is FinalDecision.PROMOTED:
            self._log.info("not rolled back, this rollout was promoted by %s", final.by)
            return True
        order = situation.order
        if order is None:
            self._say_impossible(situation, final)
            return False
        self._log.info("rolling back to %s: %s", order.spec.baseline, final.reason)
        request = await self._request(order, final, verdict)
        if request.outcome in (RequestOutcome.PROMOTED, RequestOutcome.SETTLED):
            return True
        if request.outcome is RequestOutcome.NOT_ACCEPTED:
            return False
        evaluation = situation.evaluation if verdict is None else verdict.evaluation
        verified = await self._verify(situation, order, request, evaluation)
        await self._tools.wait_for_ledger(
            lambda ledger: ledger.rollbacks.record(
                self._key, verified.record(order.change().idempotency_key)
            ),
            self._log,
        )
        event = Event.ROLLED_BACK if verified.is_settled else Event.VERIFICATION_FAILED
        self._say(event, event.value, f"By {final.by}: {final.reason}. {verified.sentence}")
        self._log.info("%s", verified.sentence)
        return True

    async def _decide(self, by: str, reason: str, verdict: Verdict | None) -> Final:
        """Take the final decision, with its verdict before it: a ledger that is away is waited for."""
        now = self._tools.clock.now

        def decide(ledger: Ledger) -> Final:
            self.check_lease(ledger)
            if verdict is not None:
                ledger.evaluations.add(self._key, verdict.round_, verdict.kind, verdict.evaluation, now())
            return ledger.final_decisions.take(self._key, FinalDecision.ROLLED_BACK, by, reason, now())

        return await self._tools.wait_for_ledger(decide, self._log)

    async def _request(self, order: RollbackOrder, final: Final, verdict: Verdict | None) -> RollbackRequest:
        """Ask the target until it accepts; what was breached is written down meanwhile."""
        tools = self._tools
        sender = RollbackSender(tools.open_ledger, tools.open_target_in_time, self._log, tools.clock.now)
        unwritten, is_paged = verdict, False
        while True:
            async with tools.target_slot(order.spec):
                request = await in_daemon_thread(
                    lambda: sender.request(order, final.by, final.reason, within=WITHIN), tools.rollback_slots
                )
            self._log.info("%s", request)
            if unwritten is not None:
                await self._write(unwritten)
                unwritten = None
            if request.outcome is not RequestOutcome.NOT_ACCEPTED:
                return request
            if not is_paged:
                said = (
                    f"The target has not accepted the rollback yet, standby goes on trying: {request.detail}"
                )
                self._say(Event.VERIFICATION_FAILED, "standby_not_accepted", said)
                is_paged = True
            if self._once:
                return request
            await asyncio.sleep(PAUSE_S)
            await tools.wait_for_ledger(self.check_lease, self._log)

    async def _write(self, verdict: Verdict) -> None:
        now = self._tools.clock.now()
        await self._tools.wait_for_ledger(
            lambda ledger: record_verdict(ledger, self._key, verdict, now), self._log
        )

    async def _verify(
        self,
        situation: Situation,
        order: RollbackOrder,
        request: RollbackRequest,
        evaluation: Evaluation | None,
    ) -> VerifiedRollback:
        tools, spec = self._tools, order.spec
        earlier = None if situation.rollback is None else situation.rollback.requested_at
        change = replace(order.change(), accepted_at=earlier or request.requested_at)

        def verify() -> VerifiedRollback:
            return verify_rollback(
                tools.open_target(spec),
                spec,
                change,
                open_source=tools.open_source,
                close_sources=tools.close_sources,
                breaches=() if evaluation is None else evaluation.breaches,
                warn=lambda line: self._log.warning("%s", line),
                log=lambda line: self._log.info("%s", line),
                clock=DeadlineClock(tools.clock.now, _pause),
            )

        for _ in range(MOST_PROOFS):
            verified = await in_daemon_thread(verify, tools.proof_slots)
            if verified.report.outcome is not Outcome.ACCEPTED_NOT_EFFECTIVE:
                break
            self._log.warning("%s", verified.sentence)
            event = Event.VERIFICATION_FAILED
            self._say(event, event.value, verified.sentence)
        return verified

    def _say_impossible(self, situation: Situation, final: Final) -> None:
        said = (
            f"{situation.rollout.spec.release} must be rolled back, and standby cannot do it: a team's own"
            f" operator rolls it back, in Airflow alone. Roll back by hand now. {final.reason}"
        )
        self._log.warning("%s", said)
        self._say(Event.VERIFICATION_FAILED, "standby_cannot_roll_back", said)
