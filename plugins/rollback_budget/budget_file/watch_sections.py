"""The sections of a budget file that say how to watch and who decides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.query_sections import QuerySection, kind_mistakes
from rollback_budget.budget_file.section import Section, mistake, nearest, wrong
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.decision import Action, TierDecision
from rollback_budget.model.duration import parse_duration, write_duration
from rollback_budget.model.metric import Metric
from rollback_budget.model.watch_settings import Analysis, Watch

_WITHIN = re.compile(rf"{Action.INCIDENT_COMMANDER_DECISION}_within_(.*)", re.DOTALL)
_SHORT_FORMS = [
    Action.AUTO_ROLLBACK.value,
    Action.RECORD_ONLY.value,
    f"{Action.INCIDENT_COMMANDER_DECISION}_within_15m",
]
_SHORT_PATTERN = "^(auto_rollback|record_only|incident_commander_decision(_within_[0-9a-z]+)?)$"


class MetricSection(Section, Metric):
    """What a metric is and how its source is asked for it."""

    query: QuerySection | None = Field(default=None, description="The source's query for this metric.")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield why the query cannot give what the metric is."""
        yield from super().mistakes(data)
        yield from kind_mistakes(data)


class WatchSection(Section, Watch):
    """How often and how the metrics are looked at."""

    positive: ClassVar[tuple[str, ...]] = ("poll", "step", "max_gap", "blind_after")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield settings under which no budget could burn or every look would be blind."""
        yield from super().mistakes(data)
        step = cls.peek(data, "step")
        for name in ("max_gap", "blind_after"):
            value = cls.peek(data, name)
            if step and value and value < step:
                why = f"`{name}` ({write_duration(value)}) is shorter than `step` ({write_duration(step)})"
                key = name if name in data else "step"
                yield mistake((key,), f"{why}, so that every look counts as a hole: make it longer")


class AnalysisSection(Section, Analysis):
    """Settings of the evidence methods."""

    positive: ClassVar[tuple[str, ...]] = ("block",)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield numbers out of their range."""
        yield from super().mistakes(data)
        alpha, margin, effect = (cls.peek(data, name) for name in ("alpha", "null_margin", "design_effect"))
        if alpha is not None and not 0 < alpha < 1:
            yield mistake(("alpha",), "`alpha` is a probability between 0 and 1, such as 0.05")
        if margin is not None and not 0 <= margin < 1:
            yield mistake(("null_margin",), "`null_margin` is a part of the threshold, from 0 to below 1")
        if isinstance(effect, float) and effect < 1:
            yield mistake(("design_effect",), "`design_effect` is 1 or more, or `auto`")


class TierDecisionSection(Section, TierDecision):
    """What a breach of one tier leads to."""

    positive: ClassVar[tuple[str, ...]] = ("within",)
    max_overrides: int = Field(default=2, ge=0, le=10)


def _expand_decision(value: object) -> object:
    """Read the short form, and the short form where an action is meant."""
    if isinstance(value, str):
        return _read_short_form(value)
    if isinstance(value, dict) and isinstance(value.get("action"), str):
        expanded = _read_short_form(value["action"])
        if "within" in expanded and "within" in value:
            raise wrong("says the deadline twice: in `action` and in `within`; keep one")
        return {**value, **expanded}
    if isinstance(value, dict):
        return value
    raise wrong(f"must be one of {', '.join(_SHORT_FORMS)}, or a mapping, not {name_type(value)}")


def _read_short_form(text: str) -> dict[str, Any]:
    if text in tuple(Action):
        return {"action": text}
    match = _WITHIN.fullmatch(text)
    if match is None:
        meant = nearest(text, _SHORT_FORMS) or ", ".join(_SHORT_FORMS)
        raise wrong(f"cannot be {quote(text)}; did you mean {meant}?")
    try:
        parse_duration(match[1])
    except ValueError as error:
        raise wrong(f"has a deadline, {quote(match[1])}, that is {error}") from error
    return {"action": Action.INCIDENT_COMMANDER_DECISION.value, "within": match[1]}


_ShortForm = Annotated[str, Field(pattern=_SHORT_PATTERN)]
_TierDecision = Annotated[
    TierDecisionSection,
    BeforeValidator(_expand_decision, json_schema_input_type=_ShortForm | TierDecisionSection),
]


class DecisionSection(Section):
    """The agreed answer to a breach, by tier."""

    tier_a_breach: _TierDecision = TierDecisionSection(action=Action.AUTO_ROLLBACK)
    tier_b_breach: _TierDecision = TierDecisionSection(action=Action.INCIDENT_COMMANDER_DECISION)
    tier_c_breach: _TierDecision = TierDecisionSection(action=Action.RECORD_ONLY)

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Let a long form without an action keep the action of its tier."""
        fields = super().arrange(data)
        for name, value in fields.items():
            if isinstance(value, dict) and "action" not in value:
                fields[name] = {"action": cls.model_fields[name].default.action.value, **value}
        return fields


class CommanderSection(Section):
    """A user of the Airflow deployment who may override; ``id`` is the auth manager's user id."""

    id: str = Field(examples=["admin"])
    name: str | None = None


def _as_commanders(value: object) -> object:
    """Read one id, one mapping, or a list of those."""
    each: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    for item in each:
        if not isinstance(item, str | dict):
            hint = f'; put it in quotes: "{item}"' if isinstance(item, int) else ""
            raise wrong(f"must be a user id or `{{id: ..., name: ...}}`, not {name_type(item)}{hint}")
    commanders = [{"id": item} if isinstance(item, str) else item for item in each]
    ids = Counter(item["id"] for item in commanders if isinstance(item.get("id"), str))
    if twice := [name for name, count in ids.items() if count > 1]:
        raise wrong(f"names {quote(twice[0])} twice")
    return commanders


_OneCommander = str | CommanderSection
Commanders = Annotated[
    tuple[CommanderSection, ...],
    BeforeValidator(_as_commanders, json_schema_input_type=_OneCommander | list[_OneCommander] | None),
]
