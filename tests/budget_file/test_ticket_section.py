from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.exceptions import SpecError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.ticket import TicketFields

pytestmark = pytest.mark.pure

GOOD = """\
release: new
baseline: old
window: 24h
rollback_budget:
  latency: {p95_delta_pct: 15, max_duration_min: 30}
tickets:
  project: LLM
  issue_type: Bug
  priority: {critical: Highest, major: High}
  components: assistant
  labels: [llm, eval]
  fields: {customfield_10010: {value: Production}}
  assignee: {llm-platform: 5b10ac8d82e05b22cc7d4ef5}
  close_with: Done
"""


def test_ticket_fields_are_frozen_with_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(GOOD)
    spec = load_budget(path)
    assert spec.tickets == TicketFields(
        project="LLM",
        issue_type="Bug",
        priority={"critical": "Highest", "major": "High"},
        components=("assistant",),
        labels=("llm", "eval"),
        fields={"customfield_10010": {"value": "Production"}},
        assignee={"llm-platform": "5b10ac8d82e05b22cc7d4ef5"},
        close_with="Done",
    )
    assert RolloutSpec.model_validate_json(spec.canonical_json()) == spec


def test_one_priority_is_that_of_every_severity(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(GOOD.replace("{critical: Highest, major: High}", "High"))
    assert load_budget(path).tickets.priority == {"critical": "High", "major": "High", "minor": "High"}


def test_a_budget_says_single_fields_over_the_shared_ones_and_a_fields_value_is_one_piece(
    tmp_path: Path,
) -> None:
    shared = "tickets:\n  project: LLM\n  labels: [llm]\n  fields:\n    customfield_1: {value: a, child: b}\n"
    (tmp_path / "defaults.yaml").write_text(shared)
    path = tmp_path / "new.yaml"
    own = "tickets: {labels: mine, fields: {customfield_1: {value: c}, customfield_2: 3}}\n"
    path.write_text(GOOD[: GOOD.index("tickets:")] + own)
    tickets = load_budget(path).tickets
    assert (tickets.project, tickets.labels) == ("LLM", ("mine",))
    assert tickets.fields == {"customfield_1": {"value": "c"}, "customfield_2": 3}


def test_what_one_leaves_open_comes_from_the_defaults() -> None:
    own = TicketFields(project="LLM", labels=("mine",))
    defaults = TicketFields(project="OPS", issue_type="Bug", labels=("llm",), priority={"major": "High"})
    filled = own.over(defaults)
    assert (filled.project, filled.issue_type, filled.labels) == ("LLM", "Bug", ("mine",))
    assert filled.priority == {"major": "High"}


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("project: LLM", "project: llm team", (7, 12), "no project key"),
        ("labels: [llm, eval]", "labels: [a b]", (11, 11), "holds a space"),
        ("{customfield_10010", "{priority", (12, 22), "write it as `priority`"),
        ("{customfield_10010", "{summary", (12, 21), "written from the breach"),
        ("critical: Highest", "grave: Highest", (9, 13), "no severity"),
        ("priority: {critical: Highest, major: High}", "priority: 3", (9, 13), "a priority's name"),
        ("issue_type", "isue_type", (8, 3), "did you mean `issue_type`?"),
        ("close_with: Done", "close_with: ''", (14, 15), "must not be empty"),
    ],
)
def test_what_jira_would_refuse_is_said_with_its_place(
    tmp_path: Path, old: str, new: str, place: tuple[int, int], says: str
) -> None:
    path = tmp_path / "new.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError) as refused:
        load_budget(path)
    (problem,) = refused.value.problems
    assert says in problem.message
    assert (problem.line, problem.column) == place
