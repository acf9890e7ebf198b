"""``docs/reference/budget-file.md`` names every key and the defaults that the types have."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.budget_file.budget_file import BudgetFile
from rollback_budget.model.budget import Budget
from rollback_budget.model.decision import Decision
from rollback_budget.model.duration import parse_duration
from rollback_budget.model.metric import Metric
from rollback_budget.model.section import Section
from rollback_budget.model.watch_settings import Analysis, Watch

pytestmark = pytest.mark.pure

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "budget-file.md").read_text(encoding="utf-8")


def table_under(heading: str) -> dict[str, str]:
    """Return key and default of every row in the tables under a heading."""
    chapter = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|(?:.*\|)? ([^|]+) \|$", chapter, flags=re.MULTILINE)
    return {key: default.strip() for key, default in rows}


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("Top level", BudgetFile),
        ("One budget", Budget),
        ("Decision", Decision),
        ("Metrics", Metric),
        ("Watch", Watch),
        ("Analysis", Analysis),
    ],
)
def test_the_page_has_every_key_and_no_other_default(heading: str, section: type[Section]) -> None:
    table = table_under(heading)
    assert set(section.known_keys()) <= set(table)
    fields = {section.written_as.get(name, name): field for name, field in section.model_fields.items()}
    for name in section.known_keys():
        field = fields.get(name)
        if name in section.required_keys():
            assert table[name].startswith("**required**"), name
        elif field is None or field.is_required() or name in getattr(section, "optional", ()):
            continue  # Its default follows from the other keys, as the page says it.
        elif isinstance(field.default, timedelta):
            assert parse_duration(table[name].strip("`")) == field.default, name
        elif isinstance(field.default, bool | float | int | str) and field.default != "":
            assert table[name] == f"`{str(field.default).lower()}`", name


def test_the_page_shows_the_budget_of_this_repository() -> None:
    budget = Path(__file__).parents[2] / "budgets" / "model-v42.yaml"
    assert f"```yaml\n{budget.read_text(encoding='utf-8')}```" in PAGE
