"""From a path to a frozen spec, or to every problem on the way."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rollback_budget.budget_file.budget_file import BudgetFile
from rollback_budget.budget_file.error_translation import translate
from rollback_budget.budget_file.inheritance import DEFAULTS, resolve
from rollback_budget.exceptions import SpecError
from rollback_budget.model.reading import read
from rollback_budget.model.spec import RolloutSpec

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 100


def load_budget(path: Path) -> RolloutSpec:
    """Read a budget file with all it inherits.

    :raises SpecError: with every problem of the file, each at its place.
    """
    resolved = resolve(path)
    problems = list(resolved.problems)
    spec, mistakes = read(BudgetFile, resolved.data(), given={"name": rollout_name(path)}, build=RolloutSpec)
    # Where YAML itself misread something, what the value then seems to be is beside the point.
    places = {(problem.file, problem.line, problem.column) for problem in problems}
    found = translate(mistakes, resolved.tree, complete=resolved.complete)
    problems += [p for p in found if (p.file, p.line, p.column) not in places]
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def find_budgets(folder: Path) -> list[Path]:
    """Return the budget files directly in a folder, sorted; shared fragments and hidden files are none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and is_budget(path))


def is_budget(path: Path) -> bool:
    """Distinguish a budget from a shared fragment (``defaults.yaml``, ``_name.yaml``) by its name."""
    return not path.name.startswith((".", "_")) and path.name != DEFAULTS and not path.is_dir()


def rollout_name(path: Path) -> str:
    """Return a name for the rollout that is safe as a part of a DAG id, and unique in its folder."""
    stem = path.stem
    safe = _UNSAFE.sub("_", stem)[:_LONGEST_NAME]
    if safe == stem:
        return safe
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{safe}-{digest[:8]}"
