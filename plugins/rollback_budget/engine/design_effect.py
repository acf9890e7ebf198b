"""How much more two versions differ by chance than independent requests would: the design effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import sqrt

from rollback_budget.engine.frame import Frame
from rollback_budget.engine.null_boundary import Counts
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import say_duration
from rollback_budget.text import plural

#: With fewer steps that both versions have, an estimate would be a guess.
LEAST_STEPS = 200
#: Correlation is looked for up to this part of the series, ...
REACH = 20
#: ... and over at most so many steps: looking further in a longer series would only add noise.
MOST_REACH = 72


def design_effect(steps: Sequence[Counts], every: timedelta | None = None) -> float:
    """Return the long-run variance of the difference over the one of independent requests, at least 1.

    The long-run variance is Bartlett's (Newey and West 1987) over a twentieth of the series, and at most
    :data:`MOST_REACH` steps. :func:`relative_error` says how well it is known.

    :param steps: of a time without change, one a step, in order; what an arm lacks is left out.
    :param every: the length of a step, to say how long to record; None where it is not known.
    :raises SeriesError: too few steps, or events, for an estimate.
    """
    both = [step for step in steps if step.n_c and step.n_t]
    if len(both) < LEAST_STEPS:
        raise SeriesError(
            f"{plural(len(both), 'step')} with counts of both versions; the design effect needs"
            f" {LEAST_STEPS} or more{_longer(both, every)}"
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
    reach = _reach(len(both))
    variance = _covariance(centred, 0)
    variance += 2.0 * sum((1.0 - lag / reach) * _covariance(centred, lag) for lag in range(1, reach))
    # Taking the mean out takes as much of the variance as the reach is of the series.
    return max(1.0, variance / (1.0 - reach / len(both)))


def relative_error(steps: int) -> float:
    """Return the standard error of a design effect from so many steps, as a part of it.

    Bartlett's estimate has a relative variance of 4/3 of its reach over the length (Priestley 1981, 6.2.4):
    a day of minutes gives about a quarter, a week a tenth.
    """
    return sqrt(4.0 / 3.0 * _reach(steps) / steps)


def design_effect_of(budget: Budget, frame: Frame, every: timedelta) -> float:
    """Return the design effect of the rates of ``budget`` in a ``frame`` without change.

    :param every: the length of its looks.
    :raises SeriesError: too few counts for an estimate.
    """
    arms = frame.of(budget.series).arms[budget.series]
    columns = (arms.baseline, arms.baseline_n, arms.release, arms.release_n)
    steps = [
        Counts(round(p_c * n_c), round(n_c), round(p_t * n_t), round(n_t))
        for p_c, n_c, p_t, n_t in zip(*columns, strict=True)
        if 0.0 <= p_c <= 1.0 and 0.0 <= p_t <= 1.0 and n_c >= 1 and n_t >= 1
    ]
    return design_effect(steps, every)


def _longer(steps: Sequence[Counts], every: timedelta | None) -> str:
    """Say how long to record; where no step has counts, more time does not help."""
    if not steps or every is None:
        return ""
    return (
        f": record {say_duration(LEAST_STEPS * every)} or longer ({LEAST_STEPS} times {say_duration(every)})"
    )


def _reach(steps: int) -> int:
    return min(max(steps // REACH, 1), MOST_REACH)


def _covariance(values: Sequence[float], lag: int) -> float:
    if not lag:
        return sum(value * value for value in values) / len(values)
    return sum(one * other for one, other in zip(values, values[lag:], strict=False)) / len(values)
