"""What the commander reads: the breach in one sentence, every budget, and what silence means."""

from __future__ import annotations

import re
from datetime import datetime

from rollback_budget.engine.decision import Question
from rollback_budget.engine.result import BudgetEvaluation, Evaluation
from rollback_budget.ledger.key import RolloutKey
from rollback_budget.spec.model import OnTimeout, RolloutSpec

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~$])")


def review_body(
    spec: RolloutSpec,
    evaluation: Evaluation | None,
    deadline: datetime,
    question: Question,
    key: RolloutKey,
) -> str:
    """Return the review's body, as Markdown; every value in it is escaped."""
    silence = "rolls back" if question.on_timeout is OnTimeout.ROLLBACK else "goes on"
    lines = [
        f"**{escape(_headline(evaluation))}**",
        "",
        f"No answer by {deadline:%H:%M:%S} UTC {silence}. "
        f"Tier A is watched meanwhile and rolls back without waiting.",
        "",
        f"{escape(spec.release)} is compared with {escape(spec.baseline)} ({escape(spec.service)}).",
        "",
    ]
    if evaluation is not None:
        lines += _table(evaluation)
    lines += ["", f"Rollout: {escape(str(key))}"]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _headline(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "The watch failed and gave no verdict: nobody knows how the release does"
    return evaluation.sentence


def _table(evaluation: Evaluation) -> list[str]:
    return [
        "| budget | tier | now | delta | burn | remaining |",
        "|---|---|---|---|---|---|",
        *(_row(budget) for budget in evaluation.budgets),
    ]


def _row(budget: BudgetEvaluation) -> str:
    look = budget.look
    cells = [
        budget.budget,
        budget.tier.value.upper(),
        "unknown" if look is None else look.status.value,
        "unknown" if look is None or look.delta is None else f"{look.delta:+.4g}",
        _duration(budget.burn.total_seconds()),
        _duration(budget.remaining.total_seconds()),
    ]
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:g} s"
