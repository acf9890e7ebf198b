"""What a ticket says, before any tracker's markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.engine.evaluation import BudgetEvaluation, Look
from rollback_budget.ledger.debt_views import DebtEventKind
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.duration import say_duration
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.tickets.ticket_context import TicketContext

HOW_TO_PAY = (
    "Pre-release evaluation did not catch this, so a case that reproduces it is owed.",
    "It is paid by a red-green proof: an eval case that fails on the breached release, passes on the"
    " candidate, and is part of the launch gate's data set.",
    "Closing this ticket does not pay the debt.",
)

_REPORTED = {
    DebtEventKind.REOPENED: "owed again",
    DebtEventKind.DRAFTED: "a case is drafted",
    DebtEventKind.APPROVED: "every case is approved",
    DebtEventKind.PROVEN: "proven",
    DebtEventKind.PAID: "paid",
    DebtEventKind.WAIVED: "waived",
    DebtEventKind.DUPLICATE: "a duplicate",
    DebtEventKind.ESCALATED: "escalated",
    DebtEventKind.BYPASSED: "a launch went past the gate",
}


@dataclass(frozen=True, slots=True)
class Description:
    """The parts of a ticket; every string is data and must be escaped for the tracker's markup.

    :param lead: the newest breach in one sentence.
    :param facts: name and value, in reading order.
    :param table: where each budget of the rollout stood, a row of headings first; empty when not known.
    :param breaches: one line each: when, in which rollout, and the sentence.
    :param decisions: one line each: what people or the rule decided.
    :param story: one line each: what happened to the debt since.
    :param links: title and address.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    table: tuple[tuple[str, ...], ...]
    breaches: tuple[tuple[str, str, str], ...]
    decisions: tuple[str, ...]
    story: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    how_to_pay: tuple[str, ...] = HOW_TO_PAY


def describe(context: TicketContext, link: Callable[[RolloutKey], str | None]) -> Description:
    """Describe a debt from what the ledger knows of it.

    :param link: where a rollout's DAG run is seen.
    """
    debt = context.debt
    facts = [
        ("Service", debt.service),
        ("Owner", context.owner or "none named"),
        ("Budget", debt.budget),
        ("Severity", debt.severity.value),
        ("State", debt.state.value),
        ("Occurrences", str(debt.occurrences)),
        ("First breach", moment(debt.detected_at)),
        ("Last breach", moment(debt.last_breach_at)),
        ("Due", moment(debt.due_at)),
        ("Fingerprint", debt.fingerprint),
    ]
    if debt.waiver is not None:
        waiver = debt.waiver
        facts.insert(5, ("Waived", f"until {moment(waiver.until)} by {waiver.by}: {waiver.reason}"))
    links = [(f"DAG run {key}", url) for key in context.rollouts if (url := link(key)) is not None]
    return Description(
        title=f"Eval debt of {debt.service}: {debt.budget}",
        lead=lead_of(context),
        facts=tuple(facts),
        table=table_of(context),
        breaches=tuple(
            (
                moment(logged.breach.breached_at),
                f"{logged.release} against {logged.baseline} ({logged.key})",
                logged.breach.sentence,
            )
            for logged in context.breaches
        ),
        decisions=tuple(f"{moment(one.at)}, {one.key}: {one.sentence}" for one in context.decisions),
        story=story_of(context),
        links=tuple(links),
    )


def lead_of(context: TicketContext) -> str:
    """Return the newest breach in one sentence; for a debt without one, what made it."""
    if context.breaches:
        return context.breaches[0].breach.sentence
    made = [event for event in context.events if event.kind is DebtEventKind.BYPASSED]
    return f"a launch went past the gate: {made[-1].detail or 'no reason is known'}" if made else "no breach"


def table_of(context: TicketContext) -> tuple[tuple[str, ...], ...]:
    """Return where each budget of the newest breach's rollout stood when it was last evaluated."""
    if context.rollout is None or context.evaluation is None:
        return ()
    spec, evaluation = context.rollout.spec, context.evaluation.evaluation
    budgets = {budget.id: budget for budget in spec.budgets}
    breached = {breach.budget for breach in evaluation.breaches}
    head = ("Budget", "Tier", "Threshold", spec.baseline, spec.release, "Delta", "Burn")
    rows = [
        _row(spec, budgets[one.budget], one, breached=one.budget in breached)
        for one in evaluation.budgets
        if one.budget in budgets
    ]
    return (head, *rows) if rows else ()


def story_of(context: TicketContext) -> tuple[str, ...]:
    """Return what happened to the debt since it was filed, oldest first, one line each."""
    lines = [
        (event.at, f"{_REPORTED[event.kind]}{_by(event.by)}{_saying(event.detail)}")
        for event in context.events
        if event.kind in _REPORTED
    ]
    for proof in context.proofs:
        judged = "accepted" if proof.accepted else "not accepted"
        said = f"proof of {proof.candidate_release} against {proof.breached_release} {judged}, by {proof.by}"
        lines.append((proof.at, said))
    lines += [(one.at, f"the launch gate for {one.release} said {one.verdict}") for one in context.gates]
    return tuple(f"{moment(at)}: {said}" for at, said in sorted(lines, key=lambda line: line[0]))


def moment(time: datetime) -> str:
    """Return a time for people."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _row(spec: RolloutSpec, budget: Budget, one: BudgetEvaluation, *, breached: bool) -> tuple[str, ...]:
    unit = spec.metric(budget.metric).unit
    burn = budget.max_duration if breached else one.burn
    used = f"{say_duration(_whole(burn))} of {say_duration(budget.max_duration)}"
    name = f"{budget.id} in {budget.slice}" if budget.slice else budget.id
    return (
        f"{name} (breached)" if breached else name,
        budget.tier.value.upper(),
        _delta(budget.threshold, budget.comparison, unit),
        _value(one.look, "baseline", unit),
        _value(one.look, "release", unit),
        "unknown" if one.look is None else _delta(one.look.delta, budget.comparison, unit),
        used if budget.max_duration else "at once",
    )


def _value(look: Look | None, arm: str, unit: str) -> str:
    value = None if look is None else getattr(look, f"{arm}_value")
    if value is None:
        return "unknown"
    n = getattr(look, f"{arm}_n")
    return f"{value:.4g} {unit}".strip() + (f" (n = {n:.0f})" if n is not None else "")


def _delta(value: float | None, comparison: Comparison, unit: str) -> str:
    if value is None:
        return "unknown"
    units = {Comparison.DELTA_PCT: "%", Comparison.DELTA_PP: "pp", Comparison.INCREASE: "events"}
    sign = "" if comparison in (Comparison.ABOVE, Comparison.BELOW) else "+"
    return f"{value:{sign}.3g} {units.get(comparison, unit)}".strip()


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=int(duration.total_seconds()))


def _by(name: str | None) -> str:
    return f" by {name}" if name else ""


def _saying(detail: str | None) -> str:
    return f" ({detail})" if detail else ""
