"""How a release is watched: pace, blindness and the settings of the evidence methods."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from rollback_budget.model.base import Frozen


class OnBlind(StrEnum):
    """What a watch that sees nothing leads to."""

    REVIEW = "review"
    ROLLBACK = "rollback"
    CONTINUE = "continue"


class Watch(Frozen):
    """How often and how the metrics are looked at."""

    poll: timedelta = timedelta(seconds=60)
    step: timedelta = timedelta(minutes=1)
    settle: timedelta = timedelta(seconds=90)
    grace: timedelta = timedelta(0)
    max_gap: timedelta = timedelta(minutes=5)
    blind_after: timedelta = timedelta(minutes=15)
    on_blind: OnBlind = OnBlind.REVIEW


class Analysis(Frozen):
    """Settings of the evidence methods; see the semantics page."""

    alpha: float = 0.05
    null_margin: float = 0.5
    block: timedelta | Literal["auto"] = "auto"
    design_effect: float | Literal["auto"] = 1.0
    baseline: Literal["concurrent", "static"] = "concurrent"
