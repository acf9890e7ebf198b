"""The engine: a pure fold of samples into a verdict. It has no clock, no I/O and no Airflow."""

from __future__ import annotations

from rollback_budget.engine.fold import Fold, Restart, Window, evaluate
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.result import Breach, Evaluation, Status, VerdictKind
from rollback_budget.engine.sample import Sample, SeriesRequest, Source

__all__ = [
    "Breach",
    "Evaluation",
    "Fold",
    "Frame",
    "Restart",
    "Sample",
    "SeriesRequest",
    "Source",
    "Status",
    "VerdictKind",
    "Window",
    "evaluate",
    "frame_of",
]
