"""One measured figure, beside what it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time


@dataclass(frozen=True)
class Figure:
    """What was measured.

    :param value: None for what cannot be measured; ``what`` says why.
    :param limit: what it must stay at or under, in the same unit; None for a figure without a target.
    :param at_least: what it must reach, in the same unit.
    """

    what: str
    value: float | None
    unit: str
    limit: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the target, if there is one, is met."""
        if self.value is None:
            return self.limit is None and self.at_least is None
        return (self.limit is None or self.value <= self.limit) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def target(self) -> str:
        """The target in words; empty without one."""
        if self.at_least is not None:
            return f"at least {self.at_least:g} {self.unit}"
        return "" if self.limit is None else f"at most {self.limit:g} {self.unit}"


def best_of(repeats: int, run: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of some runs: the one that other processes disturbed least."""
    times = []
    for _ in range(repeats):
        begun = process_time()
        run()
        times.append(process_time() - begun)
    return min(times)
