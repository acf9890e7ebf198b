"""Who promotes, and why."""

from __future__ import annotations

from rollback_budget.common.xcom import RolloutXcom


def author_of_promotion(exchange: RolloutXcom, rounds: int) -> tuple[str, str]:
    """Return the commander who said "promote now" with their reason, or the rule."""
    answers = exchange.answers(before=rounds + 1)
    if answers and answers[-1].promote:
        return answers[-1].author, answers[-1].reason or "promoted before the window was over"
    return "the rule", "the window is over, its budgets kept"
