"""The notifications of one round of a rollout: what the watch said, and what is asked of the commander."""

from __future__ import annotations

from datetime import datetime

from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.decision import OnTimeout
from rollback_budget.model.notify import Event
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.notifications.notification import Notification

#: What a message adds when the rollback leaves with it.
ROLLING_BACK = "The rollback is requested at once"


def round_message(
    key: RolloutKey,
    spec: RolloutSpec,
    round_: int,
    event: Event,
    sentence: str,
    deadline: datetime | None = None,
) -> Notification:
    """Return a message about a round; each event of a round is one message, however often it is tried."""
    return Notification(event, f"{event.value} {round_}", key, spec, sentence, deadline)


def verdict_messages(
    key: RolloutKey,
    spec: RolloutSpec,
    round_: int,
    evaluation: Evaluation | None,
    deadline: datetime | None,
    *,
    rolls_back: bool = False,
) -> list[Notification]:
    """Return what is said of a round's verdict: the breach, and the question with its deadline.

    :param evaluation: None when the watch failed.
    :param deadline: until when the commander has to decide; None when there is nothing to decide.
    :param rolls_back: whether the rollback leaves with the messages.
    """

    def message(event: Event, sentence: str, until: datetime | None = None) -> Notification:
        return round_message(key, spec, round_, event, sentence, until)

    what_now = f". {ROLLING_BACK}." if rolls_back else ""
    messages = []
    if evaluation is None:
        messages.append(message(Event.BLIND, "the watch failed and gave no verdict"))
    elif evaluation.verdict is VerdictKind.BLIND:
        messages.append(message(Event.BLIND, f"{evaluation.sentence}{what_now}"))
    elif evaluation.breaches:
        messages.append(message(Event.BREACH, f"{evaluation.sentence}{what_now}"))
    if deadline is not None:
        said = "" if evaluation is None else f"{evaluation.sentence}. "
        silence = say_silence(spec, evaluation, deadline)
        messages.append(message(Event.REVIEW_OPENED, f"{said}{silence}", deadline))
    return messages


def say_silence(spec: RolloutSpec, evaluation: Evaluation | None, deadline: datetime) -> str:
    """Say what no answer in time leads to."""
    question = review_terms(spec, evaluation)
    leads_to = "rolls back" if question.on_timeout is OnTimeout.ROLLBACK else "goes on"
    return f"No answer by {deadline:%H:%M:%S} UTC {leads_to}."
