"""Sharing: what many rollouts of one service say alike is held once in a process that watches them."""

from __future__ import annotations

from typing import TypeVar
from weakref import WeakValueDictionary

from rollback_budget.model.base import Frozen
from rollback_budget.model.spec import RolloutSpec

T = TypeVar("T", bound=Frozen)

_held: WeakValueDictionary[tuple[type[Frozen], str], Frozen] = WeakValueDictionary()


def share(spec: RolloutSpec) -> RolloutSpec:
    """Return an equal spec whose parts are those of other specs where they are equal.

    Budgets, metrics and settings usually come from one ``defaults.yaml``; a copy for each of thousands of
    rollouts is memory, and work for the garbage collector.
    """
    return spec.model_copy(
        update={
            "budgets": tuple(map(_one, spec.budgets)),
            "metrics": {name: _one(metric) for name, metric in spec.metrics.items()},
            "watch": _one(spec.watch),
            "analysis": _one(spec.analysis),
            "decision": _one(spec.decision),
            "incident_commanders": tuple(map(_one, spec.incident_commanders)),
            "source": None if spec.source is None else _one(spec.source),
            "target": None if spec.target is None else _one(spec.target),
            "notify": tuple(map(_one, spec.notify)),
        }
    )


def _one(part: T) -> T:
    held = _held.setdefault((type(part), part.model_dump_json()), part)
    assert isinstance(held, type(part))
    return held
