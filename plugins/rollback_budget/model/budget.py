"""One line of the stop-loss rule, and the closed sets of words that it is written in."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from rollback_budget.model.base import Frozen


class Comparison(StrEnum):
    """How a release is held against its threshold; the last part of a threshold key."""

    DELTA_PCT = "delta_pct"
    DELTA_PP = "delta_pp"
    DELTA = "delta"
    INCREASE = "increase"
    ABOVE = "above"
    BELOW = "below"

    @property
    def needs_baseline(self) -> bool:
        """Whether the baseline's value enters the delta."""
        return self not in (Comparison.ABOVE, Comparison.BELOW)


class Tier(StrEnum):
    """A rolls back at once, B asks the incident commander, C records."""

    A = "a"
    B = "b"
    C = "c"


class Method(StrEnum):
    """How the engine decides that a budget is used up."""

    AUTO = "auto"
    SEQUENTIAL = "sequential"
    SIGN = "sign"
    THRESHOLD = "threshold"


class Accounting(StrEnum):
    """Whether a good look sets the burn to zero or leaves it."""

    CONSECUTIVE = "consecutive"
    CUMULATIVE = "cumulative"


class Worse(StrEnum):
    """The direction in which a metric gets worse."""

    HIGHER = "higher"
    LOWER = "lower"


class Severity(StrEnum):
    """How soon an eval debt is due: critical 3 days, major 10, minor 30."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


class Budget(Frozen):
    """One line of the stop-loss rule.

    ``threshold`` is in the unit of its comparison (percent, percentage points, the metric's unit, events).
    """

    id: str
    area: str
    metric: str
    comparison: Comparison
    threshold: float
    worse: Worse
    max_duration: timedelta
    tier: Tier = Tier.B
    severity: Severity
    method: Method = Method.AUTO
    accounting: Accounting = Accounting.CONSECUTIVE
    min_samples: int = 1
    slice: str | None = None

    @property
    def key(self) -> str:
        """The threshold key as it stands in the file, ``<metric>_<comparison>``."""
        return f"{self.metric}_{self.comparison.value}"

    @property
    def series(self) -> str:
        """The name under which sources deliver this budget's samples: ``metric`` or ``metric:slice``."""
        return self.metric if self.slice is None else f"{self.metric}:{self.slice}"
