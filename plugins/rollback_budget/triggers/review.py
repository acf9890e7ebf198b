"""Waiting beside an open review: for its deadline, its answer, or the end of its rollout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import Choice, InvalidResponseError
from rollback_budget.common.heartbeat import BEAT_EVERY_S
from rollback_budget.common.review_answer import answer_of
from rollback_budget.exceptions import LedgerError, LedgerUnavailableError
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.triggers.hitl_response import ANSWER_TIMEOUT, read_answer
from rollback_budget.triggers.open_reviews import OpenReviews, ReviewState, until_next_tick
from rollback_budget.triggers.threads import Lookup
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

if TYPE_CHECKING:
    from rollback_budget.common.xcom import ReviewAnswer
    from rollback_budget.ledger.views import Final
    from rollback_budget.rollback.order import RollbackOrder

#: How often it is looked whether there is an answer, or the rollout has ended meanwhile.
POLL = timedelta(seconds=1)
#: How long one look for an answer, or for the rollout's end, may hold up the next.
LOOK_WAIT = timedelta(seconds=1)
#: How long Airflow may take to note at the deadline that the question is answered by silence.
CLOSE_WAIT = timedelta(seconds=2)
#: Where Airflow refused that, there is an answer: it is worth this wait.
THEIRS_WAIT = timedelta(seconds=5)
#: How long the event waits until an answer is written down; the task behind it writes the same.
RECORD_WAIT = timedelta(seconds=2)
#: A ledger that is away is tried again after this time, and for so long.
RECORD_AGAIN_AFTER = timedelta(seconds=5)
RECORD_FOR = timedelta(minutes=30)

_recordings: set[asyncio.Future[None]] = set()
#: What follows answers of triggers that Airflow took away.
_followed: set[asyncio.Future[None]] = set()


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
        self._given = Lookup(lambda: read_answer(self.ti_id, self.log))
        self._state = Lookup(self._read_state)
        self._ask_at = 0.0
        self._problem = ""
        self._noting: Lookup[None] = Lookup.in_thread(self._note_open)
        self._is_noted = False
        self._next_beat = 0.0

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
        ahead = None if self.order is None else asyncio.ensure_future(self._prepare())
        reviews = OpenReviews.of_this_loop()
        reviews.enter()
        try:
            answer, final = await self._wait()
            if answer is None:
                answer = await self._close(final)
            event = {**answer, "rollback": await self.follow(answer, final)}
        finally:
            reviews.leave()
            if ahead is not None:
                ahead.cancel()
        held = datetime.fromisoformat(self.deferred_at) + HOLD_AFTER_DEFER - utc_now()
        await asyncio.sleep(max(held.total_seconds(), 0))
        yield TriggerEvent(event)

    async def _wait(self) -> tuple[dict[str, Any] | None, Final | None]:
        """Return the answer, or else the rollout's end; None and None when the deadline came first."""
        deadline = datetime.fromisoformat(self.deadline)
        # Airflow takes an answer that comes while the task is about to wait, and resumes nothing with it.
        answer, final = await self._look()
        while answer is None and final is None and (left := deadline - utc_now()) > timedelta(0):
            await until_next_tick(POLL, left)
            answer, final = await self._look()
        return answer, final

    async def _prepare(self) -> None:
        from rollback_budget.triggers.on_verdict import prepare_rollback

        await prepare_rollback(self._order().spec, self.log)

    async def _look(self) -> tuple[dict[str, Any] | None, Final | None]:
        """Return the answer, or else the rollout's end, if there is one and Airflow or the ledger says it."""
        given, state, _ = await asyncio.gather(
            self._read_given(), self._state.answer(LOOK_WAIT), self._note_in_time()
        )
        recorded = None if state is None else state.answer
        if given is None and recorded is not None:
            await self._close_as(recorded["chosen_options"][0], recorded["params_input"])
        answer = given or recorded
        return answer, None if answer is not None or state is None else state.final

    async def on_kill(self) -> None:
        """Follow what a person just answered: Airflow resumes the task with it, and takes this trigger away.

        Also runs when the task is cleared, and when a triggerer that hung wakes up. Then there is no answer,
        or one that was followed before, and following it again changes nothing.
        """
        # Airflow cancels again with each of its syncs, a second apart, whatever this is waiting for.
        following = asyncio.ensure_future(self._follow_given())
        _followed.add(following)
        following.add_done_callback(_followed.discard)
        await asyncio.shield(following)

    async def _follow_given(self) -> None:
        # A look that is still under way may have begun before the answer came.
        self._given.forget()
        answer = await self._given.answer(ANSWER_TIMEOUT)
        if answer is not None:
            await self.follow(answer)

    async def _read_given(self) -> dict[str, Any] | None:
        """Return what Airflow holds, when it is this review's turn to ask."""
        if not self._given.is_under_way:
            now_s = time.monotonic()
            if now_s < self._ask_at and utc_now() < datetime.fromisoformat(self.deadline):
                return None
            self._ask_at = OpenReviews.of_this_loop().ask_again_at(now_s)
        return await self._given.answer(LOOK_WAIT)

    async def _read_state(self) -> ReviewState:
        state = await OpenReviews.of_this_loop().state((self._key, self.round_))
        if state.problem and state.problem != self._problem:
            self.log.warning("going on without the ledger: %s", state.problem)
        self._problem = state.problem
        return state

    async def _note_in_time(self) -> None:
        beats = self._is_window_over() and time.monotonic() >= self._next_beat
        if self.round_ and (beats or not self._is_noted):
            await self._noting.answer(LOOK_WAIT)

    def _note_open(self) -> None:
        """Write into the ledger that the question is open, in case that its task could not.

        Once the window is over the guard has ended, and this is the only sign of life.
        """
        from rollback_budget.common.config import open_ledger

        reviews = open_ledger().reviews
        try:
            if not self._is_noted:
                reviews.note_asked(self._key, self.round_, utc_now())
                self._is_noted = True
            if self._is_window_over() and time.monotonic() >= self._next_beat:
                self._next_beat = time.monotonic() + BEAT_EVERY_S
                open_ledger().watch_heartbeats.beat([self._key])
        except LedgerUnavailableError:
            return
        except LedgerError as error:
            self.log.info("the ledger does not know this review: %s", error)
            self._is_noted = True

    def _is_window_over(self) -> bool:
        return bool(self.window_end) and utc_now() >= datetime.fromisoformat(self.window_end)

    @property
    def _key(self) -> RolloutKey:
        return RolloutKey(self.dag_id, self.run_id)

    async def follow(self, answer: Mapping[str, Any], final: Final | None = None) -> dict[str, Any] | None:
        """Request the rollback if that is the answer, and write the answer down.

        A rollout that is rolled back already, by a triggerer that ended before it could request it perhaps,
        is requested again, which changes nothing where it was.

        :param answer: what Airflow brings, or would bring, of it.
        :param final: how the rollout ended without an answer.
        :return: the :class:`~rollback_budget.rollback.request.RollbackRequest` as JSON; None when the answer
            asks for none, or the rollback is not ours to send.
        """
        if not self.window_end:
            return None
        if final is not None:
            return await self._request_again(final)
        if answer.get("closed") is not None:
            return None
        try:
            window_end = datetime.fromisoformat(self.window_end)
            read = answer_of(dict(answer), round_=self.round_, budgets=self.budgets, window_end=window_end)
        except InvalidResponseError as error:
            self.log.info("this answer cannot be followed, the task asks again: %s", error)
            return None
        request = None
        if read.option == Choice.ROLL_BACK.value:
            request = await self._request(read.author, read.reason or self.reason)
        # Goes on when this trigger has fired: nobody who reads the ledger shall take this for silence.
        recording = asyncio.ensure_future(self._record_until_done(read, window_end))
        _recordings.add(recording)
        recording.add_done_callback(_recordings.discard)
        await asyncio.wait({recording}, timeout=RECORD_WAIT.total_seconds())
        return request

    async def _request_again(self, final: Final) -> dict[str, Any] | None:
        from rollback_budget.ledger.views import FinalDecision

        if final.decision is not FinalDecision.ROLLED_BACK:
            return None
        return await self._request(final.by, final.reason)

    async def _request(self, by: str, reason: str) -> dict[str, Any] | None:
        if self.order is None:
            return None
        from rollback_budget.triggers.on_verdict import request_rollback

        request = await request_rollback(self._order(), by, reason, self.log)
        return request.model_dump(mode="json")

    def _order(self) -> RollbackOrder:
        from rollback_budget.rollback.order import RollbackOrder

        assert self.order is not None
        return RollbackOrder.model_validate_json(self.order)

    def _record(self, answer: ReviewAnswer, window_end: datetime) -> bool:
        """Write it into the ledger now; the task that it resumes may have to wait, and writes the same."""
        from rollback_budget.common.config import open_ledger
        from rollback_budget.common.ledger_sync import record_answer

        try:
            record_answer(open_ledger(), self._key, answer, window_end)
        except LedgerUnavailableError as error:
            self.log.warning("the answer reaches the ledger later: %s", error)
            return False
        except LedgerError as error:
            self.log.error("the ledger refuses the answer, which no retry changes: %s", error)
        return True

    async def _record_until_done(self, answer: ReviewAnswer, window_end: datetime) -> None:
        recording = Lookup.in_thread(lambda: self._record(answer, window_end))
        give_up = utc_now() + RECORD_FOR
        while not await recording.answer(RECORD_AGAIN_AFTER) and utc_now() < give_up:
            await asyncio.sleep(RECORD_AGAIN_AFTER.total_seconds())

    async def _close(self, final: Final | None) -> dict[str, Any]:
        """Answer the request in Airflow, so that it does not stay open, unless a person just did."""
        option, closed = self.default, None
        if final is not None:
            from rollback_budget.ledger.views import FinalDecision

            ended_well = final.decision is FinalDecision.PROMOTED
            option = Choice.PROMOTE if ended_well else Choice.ROLL_BACK
            closed = {"by": final.by, "reason": final.reason, "at": final.at.isoformat()}
        given = {"reason": None if closed is None else closed["reason"], "until": None, "mute": False}
        closing = await self._close_as(str(option), given)
        if closing is not _Closing.DONE:
            # Perhaps a person was a moment faster, after the look that is under way began; perhaps Airflow
            # cannot say. The deadline holds either way.
            self._given.forget()
            theirs = await self._given.answer(THEIRS_WAIT if closing is _Closing.REFUSED else LOOK_WAIT)
            if theirs is not None:
                return theirs
        return {
            "chosen_options": [str(option)],
            "params_input": given,
            "responded_at": utc_now().isoformat(),
            "responded_by_user": None,
            "closed": closed,
        }

    async def _close_as(self, option: str, given: dict[str, Any]) -> _Closing:
        """Answer the request in Airflow, if it takes that in time."""
        try:
            async with asyncio.timeout(CLOSE_WAIT.total_seconds()):
                await asyncio.to_thread(_write_answer, UUID(self.ti_id), option, given)
        except TimeoutError:
            self.log.info("whether the request is answered in Airflow is not known: it does not say")
            return _Closing.UNKNOWN
        except Exception as error:
            self.log.info("the request could not be answered in Airflow: %s", error)
            return _Closing.REFUSED
        return _Closing.DONE


class _Closing(Enum):
    """Whether Airflow took what the trigger answered."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


def _write_answer(ti_id: UUID, option: str, given: dict[str, Any]) -> None:
    from airflow.sdk.execution_time.hitl import update_hitl_detail_response

    update_hitl_detail_response(ti_id=ti_id, chosen_options=[option], params_input=given)
