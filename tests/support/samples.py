"""Samples as tests compare them: by the look and version that they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import pytest

from rollback_budget.engine import Sample

T = TypeVar("T")
Place = tuple[datetime, str]


def by_place(samples: Iterable[Sample], series: str) -> dict[Place, tuple[Any, float | None]]:
    """Return value and n of every sample of ``series``, but for those of a histogram."""
    found = {(s.time, s.version): (s.value, s.n) for s in samples if s.series == series and s.le is None}
    return {place: (pytest.approx(value), n) for place, (value, n) in found.items()}


def means(
    cells: Mapping[Place, Sequence[T]], value: Callable[[T], float | None]
) -> dict[Place, tuple[float, int]]:
    """Return the mean of the values of each place that there are, and their number."""
    known = {place: [value(one) for one in cell] for place, cell in cells.items()}
    numbers = {place: [one for one in cell if one is not None] for place, cell in known.items()}
    return {place: (sum(cell) / len(cell), len(cell)) for place, cell in numbers.items()}


def settled(samples: Iterable[Sample]) -> list[Sample]:
    """In one order, and without what is left to the order in which a database adds up."""
    return sorted((sample._replace(value=round(sample.value, 12)) for sample in samples), key=repr)
