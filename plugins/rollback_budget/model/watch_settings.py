"""How a release is watched: pace, blindness and the settings of the evidence methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal

from rollback_budget.model.base import added_later
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
    stuck_after: timedelta = added_later(
        STUCK_AFTER,
        "So long the same value and count may come, look after look, before it is unknown.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield settings under which no budget could burn or every look would be blind."""
        yield from super().mistakes(data)
        yield from shorter_than_a_look(cls, data, "step")


_SHORTER_THAN_A_LOOK = {
    "max_gap": "every look counts as a hole",
    "blind_after": "the time from one look to the next is already called blind",
}


def shorter_than_a_look(section: type[Section], data: Mapping[str, Any], every: str) -> Iterator[Mistake]:
    """Yield which of ``max_gap`` and ``blind_after`` is shorter than the duration under the key ``every``."""
    step = section.peek(data, every)
    for name in ("max_gap", "blind_after"):
        value = section.peek(data, name)
        if step and value and value < step:
            why = f"`{name}` ({write_duration(value)}) is shorter than `{every}` ({write_duration(step)})"
            key = name if name in data else every
            means = _SHORTER_THAN_A_LOOK[name]
            yield mistake((key,), f"{why}, so that {means}: make it longer")


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
