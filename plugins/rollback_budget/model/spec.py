"""The frozen spec: what a budget file means once defaults and ``extends`` are resolved.

This is what a rollout runs on. It travels as JSON (DAG run, trigger arguments, ledger), so its
field names are a contract: add fields with defaults, never rename one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.case_source import Cases
from rollback_budget.model.decision import Action, Decision
from rollback_budget.model.launch_gate import LaunchGate
from rollback_budget.model.metric import UNDESCRIBED, Metric
from rollback_budget.model.mistake import name_type, quote, wrong
from rollback_budget.model.notify import Notifiers
from rollback_budget.model.section import MayBeLeftOut, Section, Written
from rollback_budget.model.source import Source
from rollback_budget.model.target import Target
from rollback_budget.model.ticket import TicketFields
from rollback_budget.model.watch_settings import Analysis, OnBlind, Watch


class Concurrent(StrEnum):
    """What becomes of a rollout that starts while another one of the same service is watched."""

    REFUSE = "refuse"
    QUEUE = "queue"


class Commander(Section):
    """A user of the Airflow deployment who may override; ``id`` is the auth manager's user id."""

    filled_in: ClassVar[tuple[str, ...]] = ("name",)

    id: str = Field(examples=["admin"])
    name: Annotated[str, MayBeLeftOut]

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Call a commander without a name by the id."""
        fields = super().arrange(data)
        if fields.get("name") is None:
            fields = {key: value for key, value in fields.items() if key != "name"}
            return {**fields, "name": fields["id"]} if isinstance(fields.get("id"), str) else fields
        return fields


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


def _ids_or_commanders(schema: JsonSchemaValue) -> JsonSchemaValue:
    one = [{"type": "string"}, schema["items"]]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}, {"type": "null"}]}


class RolloutSpec(Section):
    """Everything a rollout needs, resolved and frozen."""

    version: Literal[1] = 1
    name: str
    release: str = Field(examples=["model-v42"], description="The version being rolled out.")
    baseline: str = Field(examples=["model-v41"], description="The version compared with and rolled back to.")
    service: str = Field(default="default", description="What releases belong to; debts are kept by service.")
    window: timedelta = Field(examples=["24h"], description="How long the release is watched.")
    budgets: tuple[Budget, ...]
    owner: str | None = Field(default=None, description="Who answers for this rollout; needed to ship.")
    incident_commanders: Annotated[tuple[Commander, ...], Written(_as_commanders, _ids_or_commanders)] = (
        Field(default=(), description="Who may override; needed to ship.")
    )
    metrics: dict[str, Metric] = Field(
        default_factory=dict,
        description="What each metric is; `preset: <name>` brings ready-made ones.",
    )
    watch: Watch = Watch()
    analysis: Analysis = Analysis()
    decision: Decision = Decision()
    source: Source | None = Field(default=None, description="Where samples come from; needed to ship.")
    target: Target | None = Field(default=None, description="Who serves; needed to ship.")
    concurrent: Concurrent = Field(
        default=Concurrent.REFUSE,
        description="What becomes of a second rollout of the same service while one is watched.",
    )
    cases: Cases = Field(
        default=Cases(), description="How a breach becomes eval cases, and where its requests are."
    )
    notify: Notifiers = Field(default=(), description="Who is notified of what, through Airflow notifiers.")
    tickets: TicketFields = Field(
        default=TicketFields(), description="What the tickets of this service's eval debts look like."
    )
    launch_gate: LaunchGate | None = Field(
        default=None, description="What is checked before the release gets traffic."
    )

    @property
    def has_stages(self) -> bool:
        """Whether traffic is divided anew during the window; counts of two looks are then never pooled."""
        return self.target is not None and bool(self.target.stages)

    def canonical_json(self) -> str:
        """Return the one JSON text of this spec: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hex digest of :meth:`canonical_json`."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @property
    def max_overrides(self) -> int:
        """How many times this rollout's commander may say "go on"."""
        reviews = [
            decision.max_overrides
            for decision in (self.decision.of(tier) for tier in Tier)
            if decision.action is Action.INCIDENT_COMMANDER_DECISION
        ]
        blind_review = self.watch.on_blind is OnBlind.REVIEW
        return max(reviews, default=self.decision.tier_b_breach.max_overrides if blind_review else 0)

    def metric(self, name: str) -> Metric:
        """Return the description of metric ``name``, or the plain one of an undescribed metric."""
        return self.metrics.get(name, UNDESCRIBED)
