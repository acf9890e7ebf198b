"""Writing what happened in a rollout into the ledger, and reading its end; each again without doubling."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.xcom import ReviewAnswer, RolloutXcom
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import LedgerError
from rollback_budget.targets.apply import Outcome

if TYPE_CHECKING:
    from rollback_budget.clock import Log
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import Final


def final_if_known(key: RolloutKey, log: Log) -> Final | None:
    """Return the final decision; None when there is none yet, or when the ledger cannot say."""
    try:
        return open_ledger().final_decisions.of(key)
    except LedgerError as error:
        log.warning("going on without the ledger: %s", error)
        return None


def nothing_left(key: RolloutKey, log: Log) -> Final | None:
    """Return the final decision of a rollout for which the tasks have nothing more to do.

    None while there is no decision, when the ledger cannot say, and while the release is rolled back and that
    is not verified yet: whoever requested it, the tasks of the rollout verify it.
    """
    final = final_if_known(key, log)
    return None if final is not None and _is_unsettled(key, final, log) else final


def verdict_of_rollback(key: RolloutKey, round_: int, kind: str, log: Log) -> Evaluation | None:
    """Return the verdict that led to a rollback which is not verified yet; None when there is none.

    :param kind: whose verdict, ``watch`` or ``guard``.
    """
    final = final_if_known(key, log)
    if final is None or not _is_unsettled(key, final, log):
        return None
    try:
        found = open_ledger().evaluations.of(key)
    except LedgerError as error:
        log.warning("going on without the ledger: %s", error)
        return None
    return next((one.evaluation for one in reversed(found) if (one.round, one.kind) == (round_, kind)), None)


def _is_unsettled(key: RolloutKey, final: Final, log: Log) -> bool:
    from rollback_budget.ledger.views import FinalDecision

    if final.decision is not FinalDecision.ROLLED_BACK:
        return False
    try:
        record = open_ledger().rollbacks.of(key)
    except LedgerError as error:
        log.warning("whether the rollback is verified cannot be read: %s", error)
        return True
    return record is None or record.outcome not in (Outcome.EFFECTIVE, Outcome.SUPERSEDED)


def review_is_over(key: RolloutKey, round_: int) -> bool:
    """Whether the ledger holds an answer to this round's review, or the end; False when it cannot say."""
    ledger = open_ledger()
    try:
        if ledger.final_decisions.of(key) is not None:
            return True
        return any(decision.round == round_ for decision in ledger.decisions.of(key))
    except LedgerError:
        return False


def sync_ledger(ledger: Ledger, xcom: RolloutXcom, rounds: int) -> None:
    """Write every verdict and every answer of this run that the ledger does not hold yet.

    Tasks in a hurry do not wait for the ledger; the ones that write it catch up for all of them.
    """
    shipment = xcom.shipment()
    for round_ in range(1, rounds + 1):
        for kind in ("watch", "guard"):
            evaluation = xcom.evaluation(round_, kind)
            if evaluation is not None:
                _record_evaluation(ledger, xcom.key, round_, kind, evaluation)
    for answer in xcom.answers(before=rounds + 1):
        assert shipment is not None
        record_answer(ledger, xcom.key, answer, shipment.window_end)


def _record_evaluation(
    ledger: Ledger, key: RolloutKey, round_: int, kind: str, evaluation: Evaluation
) -> None:
    now = utc_now()
    ledger.evaluations.add(key, round_, kind, evaluation, now)
    ledger.breaches.log(key, evaluation.breaches, now)


def record_answer(ledger: Ledger, key: RolloutKey, answer: ReviewAnswer, until: datetime) -> None:
    """Write a commander's answer and, when it was "go on", the override; ``until`` holds unless they said."""
    ledger.decisions.add(
        key, answer.round_, answer.option, answer.by, answer.reason, answer.at, timed_out=answer.by is None
    )
    if answer.mute:
        for budget in answer.budgets:
            _suspend(ledger, key, answer, budget, answer.until or until)
    if answer.go_on:
        ledger.overrides.add(
            key,
            answer.round_,
            answer.budgets,
            answer.author,
            answer.reason or "",
            answer.at,
            answer.until or until,
        )


def _suspend(ledger: Ledger, key: RolloutKey, answer: ReviewAnswer, budget: str, until: datetime) -> None:
    """Write a mute as what it is, a suspension; one that comes late holds from then on."""
    from rollback_budget.ledger.views import Scope

    now = utc_now()
    if until <= now:
        return
    ledger.suspensions.add(
        Scope(key.dag_id, key.run_id),
        Suspension(budget=budget, since=now, until=until, by=answer.author, reason=answer.reason or ""),
        once=f"{key}/round_{answer.round_}/{budget}/{answer.at.isoformat()}",
    )
