"""The format of a budget file, once everything it inherits is merged in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.budget_section import BudgetSection
from rollback_budget.budget_file.case_sections import CasesSection, case_mistakes
from rollback_budget.budget_file.launch_gate_sections import LaunchGateSection
from rollback_budget.budget_file.notify_sections import Notifiers
from rollback_budget.budget_file.presets_reader import preset_names
from rollback_budget.budget_file.query_sections import query_mistakes
from rollback_budget.budget_file.section import Section, mistake, wrong
from rollback_budget.budget_file.source_sections import SourceSection
from rollback_budget.budget_file.target_sections import TargetSection, stage_mistakes
from rollback_budget.budget_file.ticket_sections import TicketSection
from rollback_budget.budget_file.watch_sections import (
    AnalysisSection,
    Commanders,
    DecisionSection,
    MetricSection,
    WatchSection,
)
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.duration import write_duration
from rollback_budget.model.spec import Concurrent


def _as_budgets(value: object) -> object:
    """Read one budget, or a list of them."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value:
        return value
    found = "an empty list" if isinstance(value, list) else name_type(value)
    raise wrong(f"must hold a budget (a mapping) or a list of budgets, not {found}")


_Area = Annotated[
    tuple[BudgetSection, ...],
    BeforeValidator(_as_budgets, json_schema_input_type=BudgetSection | list[BudgetSection]),
]


def _with_preset(schema: dict[str, Any]) -> None:
    """Let editors know the line ``preset:``, which is resolved before metrics are read."""
    name = {"enum": preset_names(), "type": "string"}
    schema["properties"] = {"preset": {"anyOf": [name, {"items": name, "type": "array"}]}}


class BudgetFile(Section):
    """A stop-loss rule for one rollout: beyond X for Y minutes, roll back.

    Keys that a file leaves out may come from `defaults.yaml` beside it or from the file it `extends`.
    """

    positive: ClassVar[tuple[str, ...]] = ("window",)

    extends: str | None = Field(default=None, description="The file to build on, relative to this one.")
    release: str = Field(examples=["model-v42"], description="The version being rolled out.")
    baseline: str = Field(examples=["model-v41"], description="The version compared with and rolled back to.")
    window: timedelta = Field(examples=["24h"], description="How long the release is watched.")
    rollback_budget: dict[str, _Area] = Field(
        examples=["{latency: {p95_delta_pct: +15, max_duration_min: 30}}"],
        description="Areas, each with one budget or a list of budgets.",
    )
    decision: DecisionSection = DecisionSection()
    service: str = Field(default="default", description="What releases belong to; debts are kept by service.")
    owner: str | None = Field(default=None, description="Who answers for this rollout; needed to ship.")
    incident_commander: Commanders = Field(default=(), description="Who may override; needed to ship.")
    metrics: dict[str, MetricSection] = Field(
        default_factory=dict,
        description="What each metric is; `preset: <name>` brings ready-made ones.",
        json_schema_extra=_with_preset,
    )
    watch: WatchSection = WatchSection()
    analysis: AnalysisSection = AnalysisSection()
    source: SourceSection | None = Field(default=None, description="Where samples come from; needed to ship.")
    target: TargetSection | None = Field(default=None, description="Who serves; needed to ship.")
    concurrent: Concurrent = Field(
        default=Concurrent.REFUSE,
        description="What becomes of a second rollout of the same service while one is watched.",
    )
    cases: CasesSection = Field(
        default=CasesSection(), description="How a breach becomes eval cases, and where its requests are."
    )
    notify: Notifiers = Field(default=(), description="Who is told what, through Airflow notifiers.")
    tickets: TicketSection = Field(
        default=TicketSection(), description="What the tickets of this service's eval debts look like."
    )

    launch_gate: LaunchGateSection | None = Field(
        default=None, description="What is checked before the release gets traffic."
    )

    @field_validator("rollback_budget", mode="before")
    @classmethod
    def require_an_area(cls, value: object) -> object:
        """Refuse a rule without budgets."""
        if isinstance(value, dict) and value:
            return value
        raise wrong("must be a mapping of areas, such as `latency:`, with at least one budget")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what is wrong between sections."""
        yield from super().mistakes(data)
        yield from query_mistakes(data)
        yield from case_mistakes(data)
        release, baseline = data.get("release"), data.get("baseline")
        if isinstance(release, str) and release == baseline:
            why = f"`baseline` is {quote(release)}, the same as `release`"
            yield mistake(("baseline",), f"{why}: name the version to go back to")
        window = cls.peek(data, "window")
        watch = data.get("watch", {})
        if window:
            yield from stage_mistakes(window, data.get("target"))
        if window and isinstance(watch, dict):
            yield from _unreachable(window, watch, data.get("rollback_budget"))


def _unreachable(window: timedelta, watch: dict[str, Any], areas: object) -> Iterator[InitErrorDetails]:
    """Yield what the window is too short for."""
    grace, step = (WatchSection.peek(watch, name) or timedelta(0) for name in ("grace", "step"))
    watched = window - grace
    if watched < step or not watched > timedelta(0):
        blame = ("watch", "grace") if grace else ("window",)
        rest = f"`window` less `grace` is {write_duration(max(watched, timedelta(0)))}"
        yield mistake(blame, f"{rest}, too short for one look of {write_duration(step)}")
        return
    for area, value in areas.items() if isinstance(areas, dict) else ():
        for at, budget in enumerate(value if isinstance(value, list) else [value]):
            key, duration = BudgetSection.longest(budget) or ("", timedelta(0))
            if duration >= watched:
                why = f"{write_duration(duration)} is not less than the {write_duration(watched)} watched"
                wrong_place = ("rollback_budget", area, at, key)
                yield mistake(wrong_place, f"{why}: this budget could never be used up")
