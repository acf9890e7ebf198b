"""Where a rollout stands when a standby takes it over, from the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import UnknownRolloutError
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Review, RollbackRecord, Rollout
from rollback_budget.model.choice import Choice
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.watch.watch_plan import Override, Role, WatchPlan


@dataclass(frozen=True)
class Situation:
    """Where a rollout stands.

    :param round: counted from 1.
    :param review: of this round, None while there is none.
    :param answer: to it, None while there is none.
    :param overrides: of the rounds before.
    :param evaluation: the newest verdict of this round, None while there is none.
    :param rollback: None while none was requested.
    :param answers: how many answers to reviews there are.
    """

    rollout: Rollout
    round: int
    review: Review | None
    answer: Answer | None
    overrides: tuple[Override, ...]
    evaluation: Evaluation | None
    rollback: RollbackRecord | None
    answers: int = 0

    @property
    def sentence(self) -> str:
        """Why a question was asked, or would be."""
        return "the watch gave no verdict" if self.evaluation is None else self.evaluation.sentence

    @property
    def breached(self) -> tuple[str, ...]:
        """The budgets that the question is about."""
        return () if self.evaluation is None else self.evaluation.to_be_decided

    @property
    def order(self) -> RollbackOrder | None:
        """What a rollback needs; None where it is a team's own operator that rolls back."""
        rollout = self.rollout
        if rollout.terms is None:
            return None
        return RollbackOrder(rollout=rollout.key, spec=rollout.spec, terms=rollout.terms)

    def plan(self, role: Role = Role.WATCH) -> WatchPlan:
        """Return what to watch: the rest of the window; as a guard tier A, until the deadline if one runs."""
        rollout = self.rollout
        assert rollout.shipped_at is not None
        assert rollout.window_end is not None
        until = None
        if role is Role.GUARD and self.answer is None:
            assert self.review is not None
            until = self.review.deadline + rollout.spec.watch.poll
        return WatchPlan(
            spec=rollout.spec,
            window_start=rollout.shipped_at,
            window_end=rollout.window_end,
            round_=self.round,
            role=role,
            overrides=self.overrides,
            until=until,
            rollout=rollout.key,
            terms=rollout.terms,
        )


def read_situation(ledger: Ledger, key: RolloutKey) -> Situation:
    """Read where a rollout stands. Raises LedgerError."""
    # Counted first: an answer that comes while the rest is read is noticed later, not overlooked.
    answers = len(ledger.decisions.of(key))
    rollout = ledger.rollouts.get(key)
    if rollout is None:
        raise UnknownRolloutError(f"the rollout {key} is not in the ledger at {ledger.place}")
    went_on = [one for one in ledger.overrides.of(key) if one.round]
    reviews = ledger.reviews.of(key)
    round_ = max([1, *(one.round + 1 for one in went_on), *(one.round for one in reviews)])
    answer = ledger.answers.of(key, round_)
    evaluations = [one.evaluation for one in ledger.evaluations.of(key) if one.round == round_]
    return Situation(
        rollout=rollout,
        round=round_,
        review=next((review for review in reviews if review.round == round_), None),
        answer=answer,
        overrides=tuple(Override(at=one.at, budgets=one.budget_ids) for one in went_on if one.round < round_),
        evaluation=evaluations[-1] if evaluations else None,
        rollback=ledger.rollbacks.of(key),
        answers=answers,
    )


def take_up(ledger: Ledger, key: RolloutKey) -> Situation:
    """Read where a rollout stands, to go on from there. Raises LedgerError.

    Where Airflow ended between writing an answer to go on and its override, the override is written.
    """
    situation = read_situation(ledger, key)
    answer, window_end = situation.answer, situation.rollout.window_end
    if answer is None or answer.option != Choice.GO_ON.value or window_end is None:
        return situation
    reason, round_ = answer.reason or "", situation.round
    ledger.overrides.add(key, round_, situation.breached, answer.author, reason, answer.at, window_end)
    return read_situation(ledger, key)
