"""What the commander reads: the breach in one sentence, every budget, and what each answer leads to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.common.xcom import ReviewAnswer
from rollback_budget.engine.evaluation import Breach, BudgetEvaluation, Evaluation, Status
from rollback_budget.engine.silence_policy import ReviewTerms
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Tier, Worse
from rollback_budget.model.decision import Action, OnTimeout
from rollback_budget.model.duration import say_duration
from rollback_budget.model.spec import RolloutSpec

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~$])")
_BARS = "▁▂▃▄▅▆▇█"
#: A phone shows this many bars in one line.
SPARKS = 30
BURN_BLOCKS = 8
#: A shorter review is a test's, and a deadline to the minute would say nothing.
TO_THE_MINUTE = timedelta(minutes=2)

_MARKS = {Status.GOOD: "🟢 good", Status.BAD: "🔴 bad", Status.UNKNOWN: "⚪ unknown"}


@dataclass(frozen=True)
class ReviewContext:
    """Everything that a review is about.

    :param rounds: how many rounds the rollout has; the last one asks no question.
    :param earlier: the answers of earlier rounds.
    :param link: where the DAG run is seen; None when the deployment does not say its address.
    :param chart: where the chart is seen; None when there is none, too.
    """

    spec: RolloutSpec
    evaluation: Evaluation | None
    deadline: datetime
    question: ReviewTerms
    round_: int
    rounds: int
    key: RolloutKey
    earlier: tuple[ReviewAnswer, ...] = ()
    link: str | None = None
    chart: str | None = None


def review_body(situation: ReviewContext) -> str:
    """Return the review's body, as Markdown; every value in it is escaped."""
    spec, evaluation = situation.spec, situation.evaluation
    paragraphs = [f"**{escape(_headline(evaluation))}**", f"**{_silence(situation)}** {_meanwhile(spec)}"]
    if evaluation is not None:
        paragraphs += [f"**Mind that** {escape(doubt)}." for doubt in evaluation.doubts_of_verdict]
        paragraphs += [_chart(spec, breach) for breach in evaluation.breaches]
        paragraphs.append("\n".join(_table(spec, evaluation)))
    paragraphs += [_where(situation), "\n".join(_options(situation))]
    paragraphs += [_earlier(answer) for answer in situation.earlier]
    run = escape(str(situation.key))
    paragraphs.append(f"Rollout: {run}" if situation.link is None else f"Rollout: [{run}]({situation.link})")
    if situation.chart is not None:
        paragraphs.append(f"[Chart of every budget, with the newest looks]({situation.chart})")
    return "\n\n".join(paragraphs)


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def sparkline(values: Sequence[float], *, upside_down: bool = False) -> str:
    """Draw ``values`` as bars in one line of text, the largest the highest (or the smallest, upside down)."""
    shown = [-value for value in values] if upside_down else list(values)
    step = max(len(shown) / SPARKS, 1.0)
    shown = [shown[int(place * step)] for place in range(min(len(shown), SPARKS) - 1)] + shown[-1:]
    low, high = min(shown), max(shown)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in shown)


def burn_bar(used: float) -> str:
    """Draw which fraction of a duration is used up."""
    blocks = int(min(used, 1.0) * BURN_BLOCKS)
    return "▰" * blocks + "▱" * (BURN_BLOCKS - blocks)


def _headline(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "The watch failed and gave no verdict: how the release does is not known"
    return evaluation.finding


def _silence(situation: ReviewContext) -> str:
    by = f"{situation.deadline:%H:%M}"
    if situation.question.within < TO_THE_MINUTE:
        by = f"{situation.deadline:%H:%M:%S}"
    silence = "rolls back" if situation.question.on_timeout is OnTimeout.ROLLBACK else "goes on"
    return f"No answer by {by} UTC {silence}."


def _meanwhile(spec: RolloutSpec) -> str:
    rolls_back = [tier for tier in Tier if spec.decision.of(tier).action is Action.AUTO_ROLLBACK]
    if not any(budget.tier in rolls_back for budget in spec.budgets):
        return ""
    return "Tier A is watched meanwhile and rolls back without waiting."


def _chart(spec: RolloutSpec, breach: Breach) -> str:
    """Draw the looks that made a breach: what it was at first, and what it is now."""
    looks = [(look.time, look.delta) for look in breach.samples if look.delta is not None]
    first, last = (looks[0], looks[-1]) if looks else ((breach.breached_at, breach.delta),) * 2
    lower_is_worse = any(one.id == breach.budget and one.worse is Worse.LOWER for one in spec.budgets)
    bars = sparkline([delta for _, delta in looks or [first]], upside_down=lower_is_worse)
    deltas = escape(f"{first[1]:+.3g} to {last[1]:+.3g}, budget {breach.threshold:+g}")
    return f"{escape(breach.metric)} {first[0]:%H:%M} `{bars}` {last[0]:%H:%M} UTC: {deltas}"


def _table(spec: RolloutSpec, evaluation: Evaluation) -> list[str]:
    durations = {budget.id: budget.max_duration for budget in spec.budgets}
    breached = {breach.budget for breach in evaluation.breaches}
    return [
        "| budget | now | burn |",
        "|---|---|---|",
        *(
            _row(one, durations.get(one.budget, timedelta(0)), breached=one.budget in breached)
            for one in evaluation.budgets
        ),
    ]


def _row(budget: BudgetEvaluation, duration: timedelta, *, breached: bool) -> str:
    look = budget.look
    status = Status.UNKNOWN if look is None else look.status
    delta = "" if look is None or look.delta is None else f"{look.delta:+.3g}"
    name = escape(f"{budget.budget} (tier {budget.tier.value.upper()})")
    used = 1.0 if breached else _used(budget.burn, duration)
    burn = f"{burn_bar(used)} {escape(_burnt(budget, duration))}"
    cells = [f"**{name}**" if breached else name, f"{_MARKS[status]} {escape(delta)}".rstrip(), burn]
    return "| " + " | ".join(cells) + " |"


def _used(burn: timedelta, duration: timedelta) -> float:
    return burn / duration if duration else 0.0


def _burnt(budget: BudgetEvaluation, duration: timedelta) -> str:
    return f"{_whole(budget.burn)} of {_whole(duration)}" if duration else "breaches at once"


def _whole(duration: timedelta) -> str:
    return say_duration(timedelta(seconds=int(duration.total_seconds())))


def _where(situation: ReviewContext) -> str:
    spec, evaluation = situation.spec, situation.evaluation
    said = f"{escape(spec.release)} against {escape(spec.baseline)} ({escape(spec.service)})"
    if evaluation is None or evaluation.evaluated_until is None:
        return f"{said}."
    # Looks of a metric that comes late are decided after the window's end.
    watched = min(evaluation.evaluated_until - evaluation.window_start, spec.window)
    return f"{said}, {_whole(watched)} into a window of {_whole(spec.window)}."


def _options(situation: ReviewContext) -> list[str]:
    left = situation.rounds - situation.round_ - 1
    again = {
        0: "After this, a further breach rolls back without asking.",
        1: "After this you are asked once more at most.",
    }.get(left, f"After this you are asked {left} more times at most.")
    return [
        f"- **Roll back now**: {escape(situation.spec.baseline)} gets all traffic.",
        "- **Go on** (say why): the breached budgets burn anew for the rest of the window, "
        f"or are muted until a time that you give. {again}",
        f"- **Promote now** (say why): the watch ends and {escape(situation.spec.release)} gets all traffic.",
    ]


def _earlier(answer: ReviewAnswer) -> str:
    until = "" if answer.until is None else f", until {answer.until:%H:%M} UTC"
    muted = " with its budgets muted" if answer.mute else ""
    return (
        f"At {answer.at:%H:%M} UTC {escape(answer.author)} said {escape(answer.option)}{until}{muted}: "
        f"{escape(answer.reason or 'no reason given')}"
    )
