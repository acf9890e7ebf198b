"""What leaves from where a verdict is known: the rollback, the question's deadline, the first messages.

Tasks may have to wait for a pool, an executor or a scheduler. A trigger does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rollback_budget.clock import Log, utc_now
from rollback_budget.common import config
from rollback_budget.engine.decision_policy import NextStep, next_step, rounds_of
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.exceptions import LedgerError
from rollback_budget.model.choice import RULE
from rollback_budget.rollback.bounded_call import NoAnswerError, call_within
from rollback_budget.triggers.threads import in_thread
from rollback_budget.watch.watch_plan import Role, WatchPlan

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.notifications.notification import Notification
    from rollback_budget.rollback.order import RollbackOrder
    from rollback_budget.rollback.request import RollbackRequest, RollbackSender, Verdict

#: Rollbacks that one process requests at the same time; more wait for one of these to end.
AT_ONCE = 32
#: Of these, to one target: where one does not answer, the rollbacks to others leave all the same.
AT_ONCE_TO_ONE = 24
#: Records of requests that one process writes into the ledger at the same time.
RECORDS_AT_ONCE = 4
#: Questions to a commander that one process opens in the ledger at the same time.
QUESTIONS_AT_ONCE = 32
#: Messages that one process sends at the same time.
MESSAGES_AT_ONCE = 8
#: An event waits this long for its messages; what is not sent by then is left to the task that sends them.
MESSAGE_WAIT = timedelta(seconds=5)
#: An event waits this long for the ledger to say until when the commander has to decide.
LEDGER_WAIT = timedelta(seconds=2)
#: What could not be looked up ahead of a rollback is tried again after this time.
PREPARE_AGAIN_AFTER = timedelta(minutes=1)
#: Airflow may take this long to answer its first question.
AIRFLOW_WAIT = timedelta(seconds=30)


async def act_on_verdict(plan: WatchPlan, evaluation: Evaluation, log: Log) -> dict[str, Any]:
    """Do what the verdict of a watch or a guard asks for at once; never raises.

    :return: for the event: ``rollback``, a :class:`~rollback_budget.rollback.request.RollbackRequest` as JSON
        (None: nothing was requested here), and ``deadline``, until when the commander has to decide, ISO 8601
        (None: nothing to decide).
    """
    acted: dict[str, Any] = {"rollback": None, "deadline": None}
    if plan.rollout is None:
        return acted
    try:
        await _act(plan, evaluation, log, acted)
    except Exception:
        # The tasks behind the event do what was not done here.
        logging.getLogger(__name__).exception("%s: not all was done for the verdict at once", plan.rollout)
    return acted


async def _act(plan: WatchPlan, evaluation: Evaluation, log: Log, acted: dict[str, Any]) -> None:
    if plan.role is Role.GUARD:
        # A guard acts on tier A; that it saw none, to its end, asks for nothing.
        step = NextStep.ROLL_BACK if evaluation.breaches else None
    else:
        step = next_step(plan.spec, evaluation, round_=plan.round_, rounds=rounds_of(plan.spec))
    order = plan.order if step is NextStep.ROLL_BACK else None
    deadline = None
    if step is NextStep.ASK:
        deadline = await in_thread(_askers(), lambda: _open_review(plan, evaluation, log))
        acted["deadline"] = deadline.isoformat()
    messages = asyncio.ensure_future(_notify(plan, evaluation, deadline, log, rolls_back=order is not None))
    if order is not None:
        from rollback_budget.rollback.request import Verdict

        verdict = Verdict(evaluation, plan.round_, plan.role.value)
        request = await request_rollback(order, RULE, evaluation.sentence, log, verdict)
        acted["rollback"] = request.model_dump(mode="json")
    await asyncio.wait({messages}, timeout=MESSAGE_WAIT.total_seconds())


async def request_rollback(
    order: RollbackOrder, by: str, reason: str, log: Log, verdict: Verdict | None = None
) -> RollbackRequest:
    """Request the rollback without blocking the event loop; see :class:`RollbackSender`."""
    from rollback_budget.rollback.request import TARGET_WAIT

    begun, sender = time.monotonic(), rollback_sender(log)

    def send() -> tuple[RollbackRequest, Future[None]]:
        # One that had to wait for others is asked once, so that those behind it wait less.
        left = max(TARGET_WAIT - timedelta(seconds=time.monotonic() - begun), timedelta(0))
        found = sender.request(order, by, reason, verdict, left, recorded=False)
        # Said here: while many threads are at work, each line that the event loop writes keeps it waiting.
        log.info("%s", found)
        # Whatever becomes of the trigger; and no other rollback waits for this one's record.
        return found, _recorders().submit(copy_context().run, sender.record, order, found)

    async with _slot_of(order):
        found, recording = await in_thread(_senders(), send)
    await asyncio.shield(asyncio.wrap_future(recording))
    return found


async def finish_rollback(order: RollbackOrder, log: Log) -> None:
    """Request the rollback of a rollout that is rolled back in the ledger: perhaps nobody has asked for it.

    A triggerer can end between the decision and the request. Changes nothing where it was requested.
    """
    from rollback_budget.common.ledger_sync import final_if_known
    from rollback_budget.ledger.views import FinalDecision

    final = await in_thread(_askers(), lambda: final_if_known(order.rollout, log))
    if final is not None and final.decision is FinalDecision.ROLLED_BACK:
        await request_rollback(order, final.by, final.reason, log)


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = WeakKeyDictionary()


def _slot_of(order: RollbackOrder) -> asyncio.Semaphore:
    """Return what lets so many rollbacks through to one target at a time."""
    target = order.spec.target
    assert target is not None
    of_loop = _slots.setdefault(asyncio.get_running_loop(), {})
    name = f"{target.type} {getattr(target, 'conn_id', '')}"
    return of_loop.setdefault(name, asyncio.Semaphore(AT_ONCE_TO_ONE))


def rollback_sender(log: Log) -> RollbackSender:
    """Return what requests rollbacks through Airflow's connections."""
    from rollback_budget.hooks.traffic_target import open_target_in_time
    from rollback_budget.rollback.request import RollbackSender

    return RollbackSender(config.open_ledger, open_target_in_time, log)


async def prepare_rollback(spec: RolloutSpec | None, log: Log) -> None:
    """Look up what a rollback will need, so that it needs nothing of Airflow when it leaves.

    Tries again until it has everything.

    :param spec: names the target; None where a rollback is not ours to request.
    """
    while not await in_thread(_preparer(), lambda: _prepare(spec, log)):
        await asyncio.sleep(PREPARE_AGAIN_AFTER.total_seconds())


def _prepare(spec: RolloutSpec | None, log: Log) -> bool:
    _call_airflow_once()
    if spec is None:
        return True
    # Imported in this thread: it takes a good part of a second, and an event loop must not wait for it.
    from rollback_budget.hooks.traffic_target import kept_connections

    return kept_connections().keep(spec, log)


@cache
def _call_airflow_once() -> None:
    """Ask Airflow something harmless: at its first question a triggerer's supervisor imports its API.

    That takes seconds, in which it answers nobody: better now than when a commander's answer is read.
    """

    def call() -> None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        RuntimeTaskInstance.get_dr_count(dag_id="rollback_budget")

    with suppress(Exception):
        call_within(AIRFLOW_WAIT, call)


def _open_review(plan: WatchPlan, evaluation: Evaluation, log: Log) -> datetime:
    """Set the deadline of a question, and keep it with its evidence; the first one that was set holds."""
    now, terms = utc_now(), review_terms(plan.spec, evaluation)
    deadline, rollout = now + terms.within, plan.rollout
    assert rollout is not None

    def record() -> datetime:
        ledger = config.open_ledger()
        stored = ledger.reviews.open(rollout, plan.round_, deadline, terms.on_timeout, now)
        ledger.evaluations.add(rollout, plan.round_, plan.role.value, evaluation, now)
        ledger.breaches.log(rollout, evaluation.breaches, now)
        return stored.deadline

    try:
        return call_within(LEDGER_WAIT, record)
    except (LedgerError, NoAnswerError) as error:
        log.warning("the ledger does not show the review yet: %s", error)
        return deadline


async def _notify(
    plan: WatchPlan, evaluation: Evaluation, deadline: datetime | None, log: Log, *, rolls_back: bool
) -> None:
    if plan.role is Role.GUARD or not plan.spec.notify:
        return
    from rollback_budget.notifications.round_messages import verdict_messages

    assert plan.rollout is not None
    messages = verdict_messages(
        plan.rollout, plan.spec, plan.round_, evaluation, deadline, rolls_back=rolls_back
    )
    await in_thread(_messengers(), lambda: _send(messages, log))


def _send(messages: Sequence[Notification], log: Log) -> None:
    from rollback_budget.notifications.dispatch import send

    # A notifier is given no task's context here: what it sends is made of the message alone.
    context: Context = {}
    try:
        for message in messages:
            missed = send(message, context, log)
            if missed:
                log.warning("left to the task that notifies: %s", "; ".join(missed))
    except Exception as error:
        log.warning("the messages are left to the task that notifies: %s", error)


@cache
def _preparer() -> ThreadPoolExecutor:
    # One thread: where thousands of watches start at once, more would only keep the event loop waiting.
    return ThreadPoolExecutor(1, "ahead of a rollback")


@cache
def _senders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, "rollback")


@cache
def _recorders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(RECORDS_AT_ONCE, "record of a rollback")


@cache
def _askers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(QUESTIONS_AT_ONCE, "review")


@cache
def _messengers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MESSAGES_AT_ONCE, "first message")
