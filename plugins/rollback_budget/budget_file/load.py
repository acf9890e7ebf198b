"""From a path to a frozen spec, or to every problem on the way."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

from pydantic import ValidationError

from rollback_budget.budget_file.budget_file import BudgetFile
from rollback_budget.budget_file.error_translation import translate
from rollback_budget.budget_file.inheritance import DEFAULTS, resolve
from rollback_budget.exceptions import SpecError
from rollback_budget.model.budget import Budget
from rollback_budget.model.spec import RolloutSpec

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 100


def load_budget(path: Path) -> RolloutSpec:
    """Read a budget file with all it inherits.

    :raises SpecError: with every problem of the file, each at its place.
    """
    resolved = resolve(path)
    problems = list(resolved.problems)
    try:
        file = BudgetFile.model_validate(resolved.data())
    except ValidationError as error:
        # Where YAML itself misread something, what the value then seems to be is beside the point.
        places = {(problem.file, problem.line, problem.column) for problem in problems}
        found = translate(error, resolved.tree, complete=resolved.complete)
        problems += [p for p in found if (p.file, p.line, p.column) not in places]
    if problems:
        raise SpecError(problems)
    return _freeze(file, rollout_name(path))


def find_budgets(folder: Path) -> list[Path]:
    """Return the budget files directly in a folder, sorted; shared fragments and hidden files are none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and is_budget(path))


def is_budget(path: Path) -> bool:
    """Tell a budget from a shared fragment (``defaults.yaml``, ``_name.yaml``) by its name."""
    return not path.name.startswith((".", "_")) and path.name != DEFAULTS and not path.is_dir()


def rollout_name(path: Path) -> str:
    """Return a name for the rollout that is safe as a part of a DAG id, and unique in its folder."""
    stem = path.stem
    safe = _UNSAFE.sub("_", stem)[:_LONGEST_NAME]
    if safe == stem:
        return safe
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{safe}-{digest[:8]}"


def _freeze(file: BudgetFile, name: str) -> RolloutSpec:
    # Through plain data, so that the spec holds the frozen types and not the file's subclasses of them.
    data = file.model_dump(exclude={"extends", "rollback_budget", "incident_commander", "launch_gate"})
    commanders = [{"id": c.id, "name": c.name or c.id} for c in file.incident_commander]
    gate = None if file.launch_gate is None else file.launch_gate.freeze()
    return RolloutSpec.model_validate(
        {
            **data,
            "name": name,
            "budgets": _budgets(file),
            "incident_commanders": commanders,
            "launch_gate": gate,
        }
    )


def _budgets(file: BudgetFile) -> tuple[Budget, ...]:
    """Number budgets of the same area and key, so that an id names one of them."""
    seen: Counter[str] = Counter()
    budgets = []
    for area, sections in file.rollback_budget.items():
        for section in sections:
            budget_id = f"{area}.{section.metric}_{section.comparison.value}"
            seen[budget_id] += 1
            number = f"#{seen[budget_id]}" if seen[budget_id] > 1 else ""
            budgets.append(section.freeze(area, budget_id + number))
    return tuple(budgets)
