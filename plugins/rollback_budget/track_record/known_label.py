"""Known labels: what counts as a rollout's label, said by a person or taken from what the commander did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rollback_budget.ledger.views import Final, FinalDecision, LoggedLabel
from rollback_budget.model.choice import RULE, SILENCE
from rollback_budget.model.label import Label


@dataclass(frozen=True, slots=True)
class KnownLabel:
    """The label of a rollout.

    :param onset: when a bad one went bad; None when not known.
    :param by: who says so.
    :param is_assumed: whether it is taken from the commander's rollback, and nobody has said it.
    """

    label: Label
    onset: datetime | None
    by: str
    is_assumed: bool = False


def known_label(final: Final | None, labels: Sequence[LoggedLabel]) -> KnownLabel | None:
    """Return what holds: the last label, else bad where a commander rolled back, else nothing.

    :param labels: in the order of recording.
    """
    if labels:
        last = labels[-1]
        return KnownLabel(last.label, last.onset, last.by)
    if final is not None and is_rolled_back_by_commander(final):
        return KnownLabel(Label.BAD, None, final.by, is_assumed=True)
    return None


def is_rolled_back_by_commander(final: Final) -> bool:
    """Whether a person decided the rollback, and not the rule or a deadline without an answer."""
    return final.decision is FinalDecision.ROLLED_BACK and final.by not in (RULE, SILENCE)
