"""Waiting beside an open review: for its deadline, its answer, or the end of its rollout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import Choice, InvalidResponseError
from rollback_budget.common.review_answer import answer_of
from rollback_budget.exceptions import LedgerError
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.triggers.hitl_response import ANSWER_TIMEOUT, read_answer
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

if TYPE_CHECKING:
    from rollback_budget.common.xcom import ReviewAnswer
    from rollback_budget.ledger.views import Final

#: How often it is looked whether there is an answer, or the rollout has ended meanwhile.
POLL = timedelta(seconds=1)
#: How long one look for an answer may hold up the next.
READ_WAIT = timedelta(seconds=1)
#: How long Airflow may take to note at the deadline that the question is answered by silence.
CLOSE_WAIT = timedelta(seconds=2)


class ReviewTrigger(BaseTrigger):
    """Answers a review that no person answers: at its deadline, or once the rollout has ended without it.

    Where the answer, or silence, is to roll back, and the target is ours, the rollback is requested from
    here: no task has to start for it. A person's answer seldom comes as an event of this trigger: Airflow
    resumes the task with it, and takes the trigger away. Fires once, with what Airflow would bring of it,
    ``closed`` (why it was pointless to wait on, None at the deadline) and ``rollback`` (a
    :class:`~rollback_budget.rollback.request.RollbackRequest` as JSON, None: nothing was requested here).

    :param ti_id: id of the review's task instance.
    :param deadline: when silence is the answer, ISO 8601.
    :param default: the option that silence chooses.
    :param dag_id: with ``run_id``, the rollout's key in the ledger.
    :param deferred_at: when the task deferred, ISO 8601.
    :param order: a :class:`~rollback_budget.rollback.order.RollbackOrder` as JSON, to be requested at the
        deadline and when a person says so; None when the rollback is not ours to send.
    :param reason: why the question was asked.
    :param round_: of the question, counted from 1.
    :param budgets: what the question is about.
    :param window_end: until when the release is watched, ISO 8601; empty where an answer is not written down
        from here.
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
        order: str | None = None,
        reason: str = "",
        round_: int = 0,
        budgets: Sequence[str] = (),
        window_end: str = "",
        **retired: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ti_id = ti_id
        self.deadline = deadline
        self.default = default
        self.dag_id = dag_id
        self.run_id = run_id
        self.deferred_at = deferred_at
        self.order = order
        self.reason = reason
        self.round_ = round_
        self.budgets = list(budgets)
        self.window_end = window_end
        self.retired = retired
        self._reading: asyncio.Future[dict[str, Any] | None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        names = (
            "ti_id",
            "deadline",
            "default",
            "dag_id",
            "run_id",
            "deferred_at",
            "order",
            "reason",
            "round_",
            "budgets",
            "window_end",
        )
        return (
            "rollback_budget.workflow.review_trigger.ReviewTrigger",
            {name: getattr(self, name) for name in names},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the deadline, an answer, or the rollout's end; request what it asks for, then fire."""
        deadline = datetime.fromisoformat(self.deadline)
        # Airflow takes an answer that comes while the task is about to wait, and resumes nothing with it.
        answer = await self._read() or await self._recorded()
        final = None if answer is not None else await self._final()
        while answer is None and final is None and (left := deadline - utc_now()) > timedelta(0):
            await asyncio.sleep(min(left, POLL).total_seconds())
            answer = await self._read() or await self._recorded()
            final = None if answer is not None else await self._final()
        if answer is None:
            answer = await self._close(final)
        event = {**answer, "rollback": await self.follow(answer)}
        held = datetime.fromisoformat(self.deferred_at) + HOLD_AFTER_DEFER - utc_now()
        await asyncio.sleep(max(held.total_seconds(), 0))
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Follow what a person just answered: Airflow resumes the task with it, and takes this trigger away.

        Also runs when the task is cleared, and when a triggerer that hung wakes up. Then there is no answer,
        or one that was followed before, and following it again changes nothing.
        """
        # A look that is still under way may have begun before the answer came.
        self._reading = None
        answer = await self._read(ANSWER_TIMEOUT)
        if answer is not None:
            await self.follow(answer)

    async def _read(self, timeout: timedelta = READ_WAIT) -> dict[str, Any] | None:
        """Return the answer that Airflow holds, None when it has none or does not say it in time.

        One call is under way at a time: where Airflow hangs, no threads pile up, and the deadline holds.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(read_answer(self.ti_id, self.log))
        done, _ = await asyncio.wait({self._reading}, timeout=timeout.total_seconds())
        if not done:
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _recorded(self) -> dict[str, Any] | None:
        """Return the answer that was given while Airflow was down, and close the question in it."""
        from rollback_budget.common.ledger_answer import recorded_answer

        if not self.round_:
            return None
        key = RolloutKey(self.dag_id, self.run_id)
        answer = await asyncio.to_thread(recorded_answer, key, self.round_, self.log)
        if answer is None:
            return None
        try:
            async with asyncio.timeout(CLOSE_WAIT.total_seconds()):
                await asyncio.to_thread(
                    _write_answer, UUID(self.ti_id), answer["chosen_options"][0], answer["params_input"]
                )
        except Exception as error:
            self.log.info("the request could not be answered in Airflow: %s", error)
        return answer

    async def _final(self) -> Final | None:
        from rollback_budget.common.ledger_sync import final_if_known

        return await asyncio.to_thread(final_if_known, RolloutKey(self.dag_id, self.run_id), self.log)

    async def follow(self, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """Request the rollback if that is the answer, and write the answer down.

        :param answer: what Airflow brings, or would bring, of it.
        :return: the :class:`~rollback_budget.rollback.request.RollbackRequest` as JSON; None when the answer
            asks for none, or the rollback is not ours to send.
        """
        if answer.get("closed") is not None or not self.window_end:
            return None
        try:
            window_end = datetime.fromisoformat(self.window_end)
            read = answer_of(dict(answer), round_=self.round_, budgets=self.budgets, window_end=window_end)
        except InvalidResponseError as error:
            self.log.info("this answer cannot be followed, the task asks again: %s", error)
            return None
        request = None
        if self.order is not None and read.option == Choice.ROLL_BACK.value:
            from rollback_budget.rollback.order import RollbackOrder
            from rollback_budget.triggers.on_verdict import request_rollback

            order = RollbackOrder.model_validate_json(self.order)
            request = await request_rollback(order, read.author, read.reason or self.reason, self.log)
        await asyncio.to_thread(self._record, read, window_end)
        return None if request is None else request.model_dump(mode="json")

    def _record(self, answer: ReviewAnswer, window_end: datetime) -> None:
        """Write it into the ledger now; the task that it resumes may have to wait, and writes the same."""
        from rollback_budget.common.config import open_ledger
        from rollback_budget.common.ledger_sync import record_answer

        try:
            record_answer(open_ledger(), RolloutKey(self.dag_id, self.run_id), answer, window_end)
        except LedgerError as error:
            self.log.warning("the answer reaches the ledger later: %s", error)

    async def _close(self, final: Final | None) -> dict[str, Any]:
        """Answer the request in Airflow, so that it does not stay open, unless a person just did."""
        option, closed = self.default, None
        if final is not None:
            from rollback_budget.ledger.views import FinalDecision

            ended_well = final.decision is FinalDecision.PROMOTED
            option = Choice.PROMOTE if ended_well else Choice.ROLL_BACK
            closed = {"by": final.by, "reason": final.reason, "at": final.at.isoformat()}
        given = {"reason": None if closed is None else closed["reason"], "until": None, "mute": False}
        try:
            async with asyncio.timeout(CLOSE_WAIT.total_seconds()):
                await asyncio.to_thread(_write_answer, UUID(self.ti_id), str(option), given)
        except Exception as error:
            # Perhaps a person was a moment faster; perhaps Airflow cannot say. The deadline holds either way.
            self.log.info("the request could not be answered in Airflow: %s", error)
            theirs = await self._read()
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
