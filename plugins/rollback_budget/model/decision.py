"""What a breach leads to, by tier, and what silence means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from rollback_budget.model.budget import Tier
from rollback_budget.model.duration import parse_duration
from rollback_budget.model.mistake import name_type, nearest, quote, wrong
from rollback_budget.model.section import Section, Written


class Action(StrEnum):
    """What a breach of a tier leads to."""

    AUTO_ROLLBACK = "auto_rollback"
    INCIDENT_COMMANDER_DECISION = "incident_commander_decision"
    RECORD_ONLY = "record_only"


class OnTimeout(StrEnum):
    """What silence of the commander means."""

    ROLLBACK = "rollback"
    CONTINUE = "continue"


class TierDecision(Section):
    """What a breach of one tier leads to, and what silence means."""

    positive: ClassVar[tuple[str, ...]] = ("within",)

    action: Action
    within: timedelta = timedelta(minutes=15)
    on_timeout: OnTimeout = OnTimeout.ROLLBACK
    max_overrides: int = Field(default=2, ge=0, le=10)


_WITHIN = re.compile(rf"{Action.INCIDENT_COMMANDER_DECISION}_within_(.*)", re.DOTALL)
_SHORT_FORMS = [
    Action.AUTO_ROLLBACK.value,
    Action.RECORD_ONLY.value,
    f"{Action.INCIDENT_COMMANDER_DECISION}_within_15m",
]
_SHORT_PATTERN = "^(auto_rollback|record_only|incident_commander_decision(_within_[0-9a-z]+)?)$"


def _expand(value: object) -> object:
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


def _or_short_form(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "pattern": _SHORT_PATTERN}, schema]}


_ShortOrLong = Annotated[TierDecision, Written(_expand, _or_short_form)]


class Decision(Section):
    """The answer to a breach that the budget fixes in advance, by tier."""

    tier_a_breach: _ShortOrLong = TierDecision(action=Action.AUTO_ROLLBACK)
    tier_b_breach: _ShortOrLong = TierDecision(action=Action.INCIDENT_COMMANDER_DECISION)
    tier_c_breach: _ShortOrLong = TierDecision(action=Action.RECORD_ONLY)

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Let a long form without an action keep the action of its tier."""
        fields = super().arrange(data)
        for name, value in fields.items():
            if isinstance(value, dict) and "action" not in value:
                fields[name] = {"action": cls.model_fields[name].default.action.value, **value}
        return fields

    def of(self, tier: Tier) -> TierDecision:
        """Return what a breach of ``tier`` leads to."""
        return {Tier.A: self.tier_a_breach, Tier.B: self.tier_b_breach, Tier.C: self.tier_c_breach}[tier]
