"""The frozen spec: what a budget file means once defaults and ``extends`` are resolved.

This is what a rollout runs on. It travels as JSON (DAG run, trigger arguments, ledger), so its
field names are a contract: add fields with defaults, never rename one.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import Field

from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.case_source import Cases
from rollback_budget.model.decision import Action, Decision
from rollback_budget.model.launch_gate import LaunchGate
from rollback_budget.model.metric import Metric
from rollback_budget.model.notify import Notify
from rollback_budget.model.source import Source
from rollback_budget.model.target import Target
from rollback_budget.model.ticket import TicketFields
from rollback_budget.model.watch_settings import Analysis, OnBlind, Watch


class Concurrent(StrEnum):
    """What becomes of a rollout that starts while another one of the same service is watched."""

    REFUSE = "refuse"
    QUEUE = "queue"


class Commander(Frozen):
    """A user of the Airflow deployment who may override; ``id`` is the auth manager's user id."""

    id: str
    name: str


class RolloutSpec(Frozen):
    """Everything a rollout needs, resolved and frozen."""

    version: Literal[1] = 1
    name: str
    release: str
    baseline: str
    service: str
    window: timedelta
    budgets: tuple[Budget, ...]
    owner: str | None = None
    incident_commanders: tuple[Commander, ...] = ()
    metrics: dict[str, Metric] = Field(default_factory=dict)
    watch: Watch = Watch()
    analysis: Analysis = Analysis()
    decision: Decision = Decision()
    source: Source | None = None
    target: Target | None = None
    concurrent: Concurrent = Concurrent.REFUSE
    cases: Cases = Cases()
    notify: tuple[Notify, ...] = ()
    tickets: TicketFields = TicketFields()
    launch_gate: LaunchGate | None = None

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
        return self.metrics.get(name, Metric())
