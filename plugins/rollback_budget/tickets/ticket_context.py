"""Ticket contexts: all that the ledger knows of a debt, gathered for its ticket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, GateRun, ProofRecord
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedBreach, LoggedEvaluation, Rollout
from rollback_budget.model.ticket import TicketFields


@dataclass(frozen=True, slots=True)
class Decided:
    """What people or the rule decided about a rollout, as one sentence."""

    at: datetime
    key: RolloutKey
    sentence: str


@dataclass(frozen=True, slots=True)
class TicketContext:
    """What a ticket can say.

    :param breaches: the newest ones, newest first.
    :param rollout: that of the newest breach, or the service's newest.
    :param evaluation: the last one of that rollout.
    """

    debt: Debt
    breaches: tuple[LoggedBreach, ...] = ()
    rollout: Rollout | None = None
    evaluation: LoggedEvaluation | None = None
    decisions: tuple[Decided, ...] = ()
    events: tuple[DebtEvent, ...] = ()
    proofs: tuple[ProofRecord, ...] = ()
    gates: tuple[GateRun, ...] = ()

    @property
    def fields(self) -> TicketFields:
        """How the budget file wants the ticket filled in."""
        return TicketFields() if self.rollout is None else self.rollout.spec.tickets

    @property
    def owner(self) -> str | None:
        """Who answers for the rollout."""
        return None if self.rollout is None else self.rollout.spec.owner

    @property
    def is_urgent(self) -> bool:
        """Whether it came back, or was not paid for so long that it was escalated."""
        escalated = any(event.kind is DebtEventKind.ESCALATED for event in self.events)
        return self.debt.occurrences > 1 or escalated

    @property
    def rollouts(self) -> tuple[RolloutKey, ...]:
        """The rollouts of the breaches, each once, newest first."""
        return tuple(dict.fromkeys(logged.key for logged in self.breaches))


def context_of(ledger: Ledger, debt: Debt) -> TicketContext:
    """Gather what the ledger knows of a debt. Raises LedgerError."""
    breaches = tuple(ledger.breaches.of_debt(debt.fingerprint))
    rollout = _rollout(ledger, debt, breaches)
    evaluations = ledger.evaluations.of(rollout.key) if rollout is not None and breaches else []
    return TicketContext(
        debt=debt,
        breaches=breaches,
        rollout=rollout,
        evaluation=evaluations[-1] if evaluations else None,
        decisions=tuple(
            decided
            for key in dict.fromkeys(logged.key for logged in breaches)
            for decided in _decided(ledger, key)
        ),
        events=tuple(event for event in ledger.debt_events.of(debt.fingerprint) if event.cycle == debt.cycle),
        proofs=tuple(proof for proof in ledger.proofs.of(debt.fingerprint) if proof.cycle == debt.cycle),
        gates=tuple(ledger.gate_runs.about(debt.fingerprint)),
    )


def _rollout(ledger: Ledger, debt: Debt, breaches: Sequence[LoggedBreach]) -> Rollout | None:
    if breaches:
        return ledger.rollouts.get(breaches[0].key)
    # The debt of a bypass has no breach; it is filled in as the service's newest budget says.
    return next(
        (one for one in ledger.rollouts.named(debt.service) if one.spec.service == debt.service), None
    )


def _decided(ledger: Ledger, key: RolloutKey) -> list[Decided]:
    """Return what was decided about a rollout, oldest first."""
    decided = []
    for answer in ledger.decisions.of(key):
        if answer.timed_out or answer.by is None:
            said = f"no answer came in time, so it was decided: {answer.option}"
        else:
            said = f"{answer.by} decided: {answer.option}"
        decided.append(Decided(answer.at, key, f"{said}{_because(answer.reason)}"))
    for override in ledger.overrides.of(key):
        budgets = ", ".join(override.budget_ids) or "the budget"
        said = f"{override.by} overrode {budgets} until {override.until:%Y-%m-%d %H:%M} UTC"
        decided.append(Decided(override.at, key, f"{said}{_because(override.reason)}"))
    rollout = ledger.rollouts.get(key)
    if rollout is not None and rollout.final is not None:
        final = rollout.final
        said = f"the rollout was {final.decision.value.replace('_', ' ')} by {final.by}"
        decided.append(Decided(final.at, key, f"{said}{_because(final.reason)}"))
    return sorted(decided, key=lambda one: one.at)


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
