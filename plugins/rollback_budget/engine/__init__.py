"""The engine: a pure fold of samples into a verdict. It has no clock, no I/O and no Airflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollback_budget.engine.evaluation import Breach, Evaluation, Status, VerdictKind
    from rollback_budget.engine.fold import Fold, Restart, Window, evaluate
    from rollback_budget.engine.frame import Frame, frame_of
    from rollback_budget.engine.sample import Sample

__all__ = [
    "Breach",
    "Evaluation",
    "Fold",
    "Frame",
    "Restart",
    "Sample",
    "Status",
    "VerdictKind",
    "Window",
    "evaluate",
    "frame_of",
]

_HOMES = {
    "fold": ("Fold", "Restart", "Window", "evaluate"),
    "frame": ("Frame", "frame_of"),
    "evaluation": ("Breach", "Evaluation", "Status", "VerdictKind"),
    "sample": ("Sample",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a process that parses DAGs folds nothing."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
