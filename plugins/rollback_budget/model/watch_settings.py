"""How a release is watched: pace, blindness and the settings of the evidence methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.duration import write_duration
from rollback_budget.model.mistake import Mistake, mistake
from rollback_budget.model.section import Section

STUCK_AFTER = timedelta(hours=2)


class OnBlind(StrEnum):
    """What a watch that sees nothing leads to."""

    REVIEW = "review"
    ROLLBACK = "rollback"
    CONTINUE = "continue"


class Watch(Section):
    """How often and how the metrics are looked at."""

    positive: ClassVar[tuple[str, ...]] = ("poll", "step", "max_gap", "blind_after", "stuck_after")

    poll: timedelta = timedelta(seconds=60)
    step: timedelta = timedelta(minutes=1)
    settle: timedelta = timedelta(seconds=90)
    grace: timedelta = timedelta(0)
    max_gap: timedelta = timedelta(minutes=5)
    blind_after: timedelta = timedelta(minutes=15)
    on_blind: OnBlind = OnBlind.REVIEW
    # Specs that were frozen before there was one keep their digests.
    stuck_after: timedelta = Field(
        default=STUCK_AFTER,
        exclude_if=lambda after: after == STUCK_AFTER,
        description="So long the same value and count may come, look after look, before it is unknown.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield settings under which no budget could burn or every look would be blind."""
        yield from super().mistakes(data)
        step = cls.peek(data, "step")
        for name in ("max_gap", "blind_after"):
            value = cls.peek(data, name)
            if step and value and value < step:
                why = f"`{name}` ({write_duration(value)}) is shorter than `step` ({write_duration(step)})"
                key = name if name in data else "step"
                yield mistake((key,), f"{why}, so that every look counts as a hole: make it longer")


class Analysis(Section):
    """Settings of the evidence methods; see the semantics page."""

    positive: ClassVar[tuple[str, ...]] = ("block",)

    alpha: float = 0.05
    null_margin: float = 0.5
    block: timedelta | Literal["auto"] = "auto"
    design_effect: float | Literal["auto"] = 1.0
    baseline: Literal["concurrent", "static"] = "concurrent"

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield numbers out of their range."""
        yield from super().mistakes(data)
        alpha, margin, effect = (cls.peek(data, name) for name in ("alpha", "null_margin", "design_effect"))
        if alpha is not None and not 0 < alpha < 1:
            yield mistake(("alpha",), "`alpha` is a probability between 0 and 1, such as 0.05")
        if margin is not None and not 0 <= margin < 1:
            yield mistake(("null_margin",), "`null_margin` is a part of the threshold, from 0 to below 1")
        if isinstance(effect, float) and effect < 1:
            yield mistake(("design_effect",), "`design_effect` is 1 or more, or `auto`")
