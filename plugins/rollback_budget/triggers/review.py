"""Waiting beside an open review: for its deadline, or for the end of its rollout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import Choice
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.triggers.hitl_response import ANSWER_TIMEOUT, read_answer
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

if TYPE_CHECKING:
    from rollback_budget.ledger.views import Final

#: How often the ledger is queried whether the rollout has ended meanwhile.
POLL = timedelta(seconds=2)


class ReviewTrigger(BaseTrigger):
    """Answers a review that no person answers: at its deadline, or once the rollout has ended without it.

    A person's answer does not come this way: Airflow resumes the task with it at once. Fires once, with what
    Airflow would bring of an answer, and ``closed`` (why it was pointless to wait on, None at the deadline).

    :param ti_id: id of the review's task instance.
    :param deadline: when silence is the answer, ISO 8601.
    :param default: the option that silence chooses.
    :param dag_id: with ``run_id``, the rollout's key in the ledger.
    :param deferred_at: when the task deferred, ISO 8601.
    """

    def __init__(
        self,
        *,
        ti_id: str,
        deadline: str,
        default: str,
        dag_id: str,
        run_id: str,
        deferred_at: str,
        **retired: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ti_id = ti_id
        self.deadline = deadline
        self.default = default
        self.dag_id = dag_id
        self.run_id = run_id
        self.deferred_at = deferred_at
        self.retired = retired

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        names = ("ti_id", "deadline", "default", "dag_id", "run_id", "deferred_at")
        return (
            "rollback_budget.workflow.review_trigger.ReviewTrigger",
            {name: getattr(self, name) for name in names},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the deadline or the rollout's end, whichever comes first."""
        deadline = datetime.fromisoformat(self.deadline)
        held = datetime.fromisoformat(self.deferred_at) + HOLD_AFTER_DEFER - utc_now()
        await asyncio.sleep(max(held.total_seconds(), 0))
        # Airflow takes an answer that comes while the task is about to wait, and resumes nothing with it.
        answered = await read_answer(self.ti_id, self.log)
        if answered is not None:
            yield TriggerEvent(answered)
            return
        final = await self._final()
        while final is None and (left := deadline - utc_now()) > timedelta(0):
            await asyncio.sleep(min(left, POLL).total_seconds())
            final = await self._final()
        yield TriggerEvent(await self._answer(final))

    async def _final(self) -> Final | None:
        from rollback_budget.common.ledger_sync import final_if_known

        return await asyncio.to_thread(final_if_known, RolloutKey(self.dag_id, self.run_id), self.log)

    async def _answer(self, final: Final | None) -> dict[str, Any]:
        """Answer the request in Airflow, so that it does not stay open, unless a person just did."""
        option, closed = self.default, None
        if final is not None:
            from rollback_budget.ledger.views import FinalDecision

            ended_well = final.decision is FinalDecision.PROMOTED
            option = Choice.PROMOTE if ended_well else Choice.ROLL_BACK
            closed = {"by": final.by, "reason": final.reason, "at": final.at.isoformat()}
        given = {"reason": None if closed is None else closed["reason"], "until": None, "mute": False}
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT.total_seconds()):
                await asyncio.to_thread(_write_answer, UUID(self.ti_id), str(option), given)
        except Exception as error:
            # Perhaps a person was a moment faster; perhaps Airflow cannot say. The deadline holds either way.
            self.log.info("the request could not be answered in Airflow: %s", error)
            theirs = await read_answer(self.ti_id, self.log)
            if theirs is not None:
                return theirs
        return {
            "chosen_options": [str(option)],
            "params_input": given,
            "responded_at": utc_now().isoformat(),
            "responded_by_user": None,
            "closed": closed,
        }


def _write_answer(ti_id: UUID, option: str, given: dict[str, Any]) -> None:
    from airflow.sdk.execution_time.hitl import update_hitl_detail_response

    update_hitl_detail_response(ti_id=ti_id, chosen_options=[option], params_input=given)
