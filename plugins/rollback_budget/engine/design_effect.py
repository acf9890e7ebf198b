"""How much more two versions differ by chance than independent requests would: the design effect."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from rollback_budget.engine.frame import Frame
from rollback_budget.engine.null_boundary import Counts
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Budget
from rollback_budget.text import plural

#: With fewer steps that both versions have, an estimate would be a guess.
LEAST_STEPS = 200
#: Correlation is looked for up to this part of the series.
REACH = 20


def design_effect(steps: Sequence[Counts]) -> float:
    """Return the long-run variance of the difference over the one of independent requests, at least 1.

    The long-run variance is Bartlett's (Newey and West 1987) over a twentieth of the series. With ``steps``
    of one day it is known to about a quarter, with those of a week to a tenth.

    :param steps: of a time without change, one a step, in order; what an arm lacks is left out.
    :raises SeriesError: too few steps, or events, for an estimate.
    """
    both = [step for step in steps if step.n_c and step.n_t]
    if len(both) < LEAST_STEPS:
        raise SeriesError(
            f"{plural(len(both), 'step')} with counts of both versions; the design effect needs"
            f" {LEAST_STEPS} or more"
        )
    events = sum(step.k_c + step.k_t for step in both)
    requests = sum(step.n_c + step.n_t for step in both)
    spread = events / requests * (1.0 - events / requests)
    if not spread:
        raise SeriesError("every event is the same, so that nothing can be learnt about chance")
    gaps = [step.k_t / step.n_t - step.k_c / step.n_c for step in both]
    scaled = [
        gap / sqrt(spread * (1.0 / step.n_c + 1.0 / step.n_t)) for gap, step in zip(gaps, both, strict=True)
    ]
    mean = sum(scaled) / len(scaled)
    centred = [value - mean for value in scaled]
    reach = max(len(both) // REACH, 1)
    variance = _covariance(centred, 0)
    variance += 2.0 * sum((1.0 - lag / reach) * _covariance(centred, lag) for lag in range(1, reach))
    # Taking the mean out takes as much of the variance as the reach is of the series.
    return max(1.0, variance / (1.0 - reach / len(both)))


def design_effect_of(budget: Budget, frame: Frame) -> float:
    """Return the design effect of the rates of ``budget`` in a ``frame`` without change.

    :raises SeriesError: too few counts for an estimate.
    """
    arms = frame.arms[budget.series]
    columns = (arms.baseline, arms.baseline_n, arms.release, arms.release_n)
    steps = [
        Counts(round(p_c * n_c), round(n_c), round(p_t * n_t), round(n_t))
        for p_c, n_c, p_t, n_t in zip(*columns, strict=True)
        if 0.0 <= p_c <= 1.0 and 0.0 <= p_t <= 1.0 and n_c >= 1 and n_t >= 1
    ]
    return design_effect(steps)


def _covariance(values: Sequence[float], lag: int) -> float:
    if not lag:
        return sum(value * value for value in values) / len(values)
    return sum(one * other for one, other in zip(values, values[lag:], strict=False)) / len(values)
