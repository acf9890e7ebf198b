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

from rollback_budget.spec.case_source import Cases
from rollback_budget.spec.frozen import Frozen
from rollback_budget.spec.launch_gate import LaunchGate
from rollback_budget.spec.notify import Notify
from rollback_budget.spec.query import PrometheusQuery
from rollback_budget.spec.source import Source
from rollback_budget.spec.target import Target
from rollback_budget.spec.ticket import TicketFields


class Comparison(StrEnum):
    """How a release is held against its threshold; the last part of a threshold key."""

    DELTA_PCT = "delta_pct"
    DELTA_PP = "delta_pp"
    DELTA = "delta"
    INCREASE = "increase"
    ABOVE = "above"
    BELOW = "below"

    @property
    def needs_baseline(self) -> bool:
        """Whether the baseline's value enters the delta."""
        return self not in (Comparison.ABOVE, Comparison.BELOW)


class Tier(StrEnum):
    """A rolls back at once, B asks the incident commander, C records."""

    A = "a"
    B = "b"
    C = "c"


class Method(StrEnum):
    """How the engine decides that a budget is used up."""

    AUTO = "auto"
    SEQUENTIAL = "sequential"
    SIGN = "sign"
    THRESHOLD = "threshold"


class Accounting(StrEnum):
    """Whether a good look sets the burn to zero or leaves it."""

    CONSECUTIVE = "consecutive"
    CUMULATIVE = "cumulative"


class Worse(StrEnum):
    """The direction in which a metric gets worse."""

    HIGHER = "higher"
    LOWER = "lower"


class Action(StrEnum):
    """What a breach of a tier leads to."""

    AUTO_ROLLBACK = "auto_rollback"
    INCIDENT_COMMANDER_DECISION = "incident_commander_decision"
    RECORD_ONLY = "record_only"


class OnTimeout(StrEnum):
    """What silence of the commander means."""

    ROLLBACK = "rollback"
    CONTINUE = "continue"


class OnBlind(StrEnum):
    """What a watch that sees nothing leads to."""

    REVIEW = "review"
    ROLLBACK = "rollback"
    CONTINUE = "continue"


class Concurrent(StrEnum):
    """What becomes of a rollout that starts while another one of the same service is watched."""

    REFUSE = "refuse"
    QUEUE = "queue"


class MetricKind(StrEnum):
    """What a metric's values are."""

    PROPORTION = "proportion"
    COUNT = "count"
    QUANTILE = "quantile"
    MEAN = "mean"
    GAUGE = "gauge"


class Severity(StrEnum):
    """How soon an eval debt is due: critical 3 days, major 10, minor 30."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


class Metric(Frozen):
    """What a metric is and how its source is asked for it.

    :param kind: what the values are; proportions are fractions between 0 and 1.
    :param unit: shown behind values, for example ``s``.
    :param query: the source's query (for ``sql``: a SELECT giving ``time, version, value, n``; for
        ``prometheus`` the series that make it up, or PromQL); None when the source's own query gives all
        metrics at once.
    :param user_impact: False for an internal metric that users do not feel.
    """

    kind: MetricKind = MetricKind.GAUGE
    unit: str = ""
    query: str | PrometheusQuery | None = None
    user_impact: bool = True


class Budget(Frozen):
    """One line of the stop-loss rule.

    ``threshold`` is in the unit of its comparison (percent, percentage points, the metric's unit, events).
    """

    id: str
    area: str
    metric: str
    comparison: Comparison
    threshold: float
    worse: Worse
    max_duration: timedelta
    tier: Tier = Tier.B
    severity: Severity
    method: Method = Method.AUTO
    accounting: Accounting = Accounting.CONSECUTIVE
    min_samples: int = 1
    slice: str | None = None

    @property
    def key(self) -> str:
        """The threshold key as it stands in the file, ``<metric>_<comparison>``."""
        return f"{self.metric}_{self.comparison.value}"

    @property
    def series(self) -> str:
        """The name under which sources deliver this budget's samples: ``metric`` or ``metric:slice``."""
        return self.metric if self.slice is None else f"{self.metric}:{self.slice}"


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


class TierDecision(Frozen):
    """What a breach of one tier leads to, and what silence means."""

    action: Action
    within: timedelta = timedelta(minutes=15)
    on_timeout: OnTimeout = OnTimeout.ROLLBACK
    max_overrides: int = 2


class Decision(Frozen):
    """The agreed answer to a breach, by tier."""

    tier_a_breach: TierDecision = TierDecision(action=Action.AUTO_ROLLBACK)
    tier_b_breach: TierDecision = TierDecision(action=Action.INCIDENT_COMMANDER_DECISION)
    tier_c_breach: TierDecision = TierDecision(action=Action.RECORD_ONLY)

    def of(self, tier: Tier) -> TierDecision:
        """Return what a breach of ``tier`` leads to."""
        return {Tier.A: self.tier_a_breach, Tier.B: self.tier_b_breach, Tier.C: self.tier_c_breach}[tier]


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
