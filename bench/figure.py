"""One measured figure, beside what it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time


@dataclass(frozen=True)
class Figure:
    """What was measured.

    :param limit: what it must stay at or under, in the same unit; None where nothing was agreed.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the limit, if there is one, is kept."""
        return self.limit is None or self.value <= self.limit


def best_of(repeats: int, run: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of some runs: the one that other processes disturbed least."""
    times = []
    for _ in range(repeats):
        begun = process_time()
        run()
        times.append(process_time() - begun)
    return min(times)
