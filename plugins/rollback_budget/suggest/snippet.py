"""A proposed rule as the part of a budget file that a person may paste."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import yaml

from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Tier
from rollback_budget.model.duration import write_duration
from rollback_budget.model.spec import RolloutSpec


def snippet_of(spec: RolloutSpec, effect: float | None) -> str:
    """Return the sections ``rollback_budget`` and, where it changes, ``analysis`` as YAML.

    :param effect: the design effect to write; None where that in force stays.
    """
    areas: dict[str, list[dict[str, Any]]] = {}
    for budget in spec.budgets:
        areas.setdefault(budget.area, []).append(_line(budget))
    document: dict[str, Any] = {} if effect is None else {"analysis": {"design_effect": effect}}
    document["rollback_budget"] = {
        area: lines[0] if len(lines) == 1 else lines for area, lines in areas.items()
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _line(budget: Budget) -> dict[str, Any]:
    line: dict[str, Any] = {budget.key: _plain(budget.threshold)}
    if budget.slice is not None:
        line["slice"] = budget.slice
    if budget.max_duration:
        minutes = budget.max_duration / timedelta(minutes=1)
        line |= (
            {"max_duration_min": int(minutes)}
            if minutes.is_integer()
            else {"max_duration": write_duration(budget.max_duration)}
        )
    elif budget.tier is Tier.A:
        line["action"] = "immediate_rollback"
    elif budget.comparison is not Comparison.INCREASE:
        line["max_duration_min"] = 0
    is_at_once = "action" in line
    options = {
        "tier": (budget.tier, Tier.A if is_at_once else Tier.B),
        "method": (budget.method, Method.AUTO),
        "accounting": (budget.accounting, Accounting.CONSECUTIVE),
        "severity": (budget.severity, _SEVERITY[budget.tier]),
        "min_samples": (budget.min_samples, 0 if budget.comparison is Comparison.INCREASE else 1),
    }
    if not budget.threshold and budget.comparison not in _ONE_DIRECTION:
        line["worse"] = budget.worse.value
    for key, (value, usual) in options.items():
        if value != usual:
            line[key] = getattr(value, "value", value)
    return line


def _plain(number: float) -> float | int:
    rounded = round(number, 6)
    return int(rounded) if rounded.is_integer() else rounded


_ONE_DIRECTION = (Comparison.INCREASE, Comparison.ABOVE, Comparison.BELOW)
_SEVERITY = {Tier.A: "critical", Tier.B: "major", Tier.C: "minor"}
