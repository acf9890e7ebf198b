"""Whether something changed between the versions in a record that is said to be without change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import sqrt
from statistics import fmean

from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget
from rollback_budget.model.pace import pace_of
from rollback_budget.suggest.noise import deltas_of
from rollback_budget.suggest.record import NoChangeRecord

BLOCK = timedelta(minutes=15)
#: With fewer blocks nothing is said.
LEAST_BLOCKS = 40
#: Kolmogorov's distribution is beyond this in 5 of 100 000 records without change.
_FAR = 2.3
#: So many standard errors from nothing, the versions are not equally good.
_DIFFERENT = 5.0
_REACH = 20


def change_in(record: NoChangeRecord, budget: Budget) -> str | None:
    """Say what changed between the versions, or that they differ throughout; None for a record without.

    The largest cumulative sum of the deltas, over their long-run standard deviation on both sides of it
    (Brown, Durbin and Evans 1975; Ploberger and Krämer 1992): a shift and a drift both show.
    """
    length = max(BLOCK // pace_of(record.spec, budget.metric).every, 1)
    frame = record.frame.of(budget.series)
    blocks = deltas_of(budget, frame.arms[budget.series], length)
    if not budget.comparison.needs_baseline or len(blocks) < LEAST_BLOCKS:
        return None
    deltas = [delta for _, delta in blocks]
    mean, total, sums = fmean(deltas), 0.0, []
    for delta in deltas[:-1]:
        total += delta - mean
        sums.append(total)
    split = max(range(len(sums)), key=lambda place: abs(sums[place])) + 1
    before, after = fmean(deltas[:split]), fmean(deltas[split:])
    rest = [delta - (before if place < split else after) for place, delta in enumerate(deltas)]
    deviation = sqrt(_long_run_variance(rest))
    unit = {"delta_pct": " %", "delta_pp": " pp"}.get(budget.comparison.value, "")
    if not deviation:
        return None
    if abs(sums[split - 1]) > _FAR * deviation * sqrt(len(deltas)):
        moment = us_to_datetime(frame.times[blocks[split][0]])
        return (
            f"the versions differ by {after:+.2g}{unit} from about {moment:%Y-%m-%d %H:%M} UTC on, and by"
            f" {before:+.2g}{unit} before: a shift or a drift far beyond noise, so that this is no time"
            " without change; leave that part out"
        )
    if abs(mean) > _DIFFERENT * deviation / sqrt(len(deltas)):
        return (
            f"the versions differ by {mean:+.2g}{unit} all the time, far beyond noise: they are not equally"
            " good, and false trips are counted too high"
        )
    return None


def _long_run_variance(values: Sequence[float]) -> float:
    reach = max(len(values) // _REACH, 1)
    found = sum(value * value for value in values)
    for lag in range(1, reach):
        taper = 1.0 - lag / reach
        found += 2.0 * taper * sum(a * b for a, b in zip(values, values[lag:], strict=False))
    return max(found, 0.0) / len(values)
