"""The three rollouts of the demo: what is shipped, how it turns out, and what the rule must do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from demo.stack import COMMANDER
from demo.traffic import Behaviour
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.budget import Tier

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "model-v41"

DEFAULTS = """\
# What the three rollouts share: the project's own defaults, with seconds in place of minutes.
extends: {defaults}
incident_commander: {{id: {commander}, name: Casey}}
watch: {{poll: 2s, step: 2s, settle: 2s, max_gap: 10s, blind_after: 1m}}
target: {{deadline: 1m, write: {{headers: {{X-Changed-By: rollback-budget}}}}}}
decision:
  tier_a_breach: auto_rollback
  tier_b_breach: {{action: incident_commander_decision, within: 2m, max_overrides: 1}}

# Where the failing requests of a breach are, and where evaluations leave their results.
cases:
  limit: 3
  source:
    type: sql
    conn_id: request_log
    request_log:
      {{table: requests, time: ts, time_type: epoch_s, output: output, trace_id: trace_id, success: success,
       latency: latency_s, handoff: handoff, incident: incident}}
launch_gate:
  results: {{path: "{evals}/{{version}}.jsonl"}}
"""

BUDGET = """\
service: {service}
release: {release}
baseline: {baseline}
window: {window_s}s

rollback_budget:
  quality:
    task_success_delta_pct: -10
    max_duration: 10s
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  latency:
    p95_delta_pct: +50
    max_duration: 10s
  escalation:
    human_handoff_delta_pct: +80
    max_duration: 10s

source: {{conn_id: {name}_requests}}
cases: {{source: {{conn_id: {name}_requests}}}}
target: {{conn_id: {name}_router}}
"""


@dataclass(frozen=True)
class Scenario:
    """One rollout.

    :param name: stem of its budget file.
    :param turns_into: how the release answers later on; None when it stays as good as the baseline.
    :param after: how long after shipping it begins to turn, and ``ramp`` how long that takes.
    :param tier: of the breach that must be found; None when there must be none.
    """

    name: str
    story: str
    service: str
    release: str
    window: timedelta
    decision: FinalDecision
    tier: Tier | None = None
    turns_into: Behaviour | None = None
    after: timedelta = timedelta(seconds=12)
    ramp: timedelta = timedelta(0)

    @property
    def dag_id(self) -> str:
        """The DAG that dags/rollouts.py makes of its budget file."""
        return f"rollout_{self.name}"

    @property
    def connections(self) -> tuple[str, str]:
        """The ids of its connections: to the request log, and to the router."""
        return f"{self.name}_requests", f"{self.name}_router"


#: What the team ships after the incident, and how long that is watched.
FIXED = "model-v45"
FIXED_WINDOW = timedelta(seconds=20)
USUAL = Behaviour(handoff=0.10)

SCENARIOS = (
    Scenario(
        name="steady",
        story="a healthy release is promoted at the end of its window",
        service="assistant",
        release="model-v42",
        window=timedelta(seconds=40),
        decision=FinalDecision.PROMOTED,
    ),
    Scenario(
        name="slide",
        story="hand-offs and latency slide: the incident commander is asked",
        service="search",
        release="model-v43",
        window=timedelta(minutes=3),
        decision=FinalDecision.ROLLED_BACK,
        tier=Tier.B,
        turns_into=Behaviour(handoff=0.35, latency_s=1.7),
        ramp=timedelta(seconds=6),
    ),
    Scenario(
        name="incident",
        story="a high-severity incident: rolled back at once",
        service="support",
        release="model-v44",
        window=timedelta(minutes=3),
        decision=FinalDecision.ROLLED_BACK,
        tier=Tier.A,
        turns_into=Behaviour(handoff=0.10, incident=0.01),
        after=timedelta(seconds=16),
    ),
)


def write_budgets(folder: Path, evals: Path) -> None:
    """Write one budget file per scenario, as a team would, and the defaults that they share.

    :param evals: where evaluations leave a file per version.
    """
    folder.mkdir(parents=True)
    defaults = DEFAULTS.format(defaults=ROOT / "budgets" / "defaults.yaml", commander=COMMANDER, evals=evals)
    (folder / "defaults.yaml").write_text(defaults)
    for scenario in SCENARIOS:
        write_budget(folder, scenario, release=scenario.release, window=scenario.window)


def write_budget(folder: Path, scenario: Scenario, *, release: str, window: timedelta) -> None:
    """Write the budget file of a scenario, anew for another release."""
    budget = BUDGET.format(
        name=scenario.name,
        service=scenario.service,
        release=release,
        baseline=BASELINE,
        window_s=int(window.total_seconds()),
    )
    (folder / f"{scenario.name}.yaml").write_text(budget)
