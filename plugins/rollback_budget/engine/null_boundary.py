"""The boundary between harmless and harmful in the plane of two rates, and the evidence against harmless.

A rate here is that of *bad* events. Harmless is ``p_t <= u + v p_c`` (release t, baseline c), a convex set,
so that a likelihood ratio against the reverse information projection on it has an expectation of at most 1
under every harmless pair (Grünwald, de Heide, Koolen 2024; for two arms: Turner, Ly, Grünwald 2024).
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

from rollback_budget.model.budget import Budget, Comparison, Worse

#: Alternatives lie this many times the threshold beyond the boundary.
MULTIPLES = (0.5, 1.0, 2.0, 4.0, 8.0)
#: No rate is closer to 0 or 1 than this.
MIN_RATE = 1e-9
MAX_RATE = 1.0 - MIN_RATE

_NEWTON_STEPS = 50
#: Relative to the variance; Newton's next step would be the square of this.
_TOLERANCE = 1e-6


class Counts(NamedTuple):
    """Bad events ``k`` among ``n``, of the baseline (c) and of the release (t)."""

    k_c: int
    n_c: int
    k_t: int
    n_t: int


class NullBoundary(NamedTuple):
    """The boundary ``p_t = offset + slope * p_c``."""

    offset: float
    slope: float

    def at(self, rate: float) -> float:
        """Return the highest harmless rate of the release for the baseline's ``rate``."""
        return self.offset + self.slope * rate


def null_boundary_of(budget: Budget, null_margin: float) -> NullBoundary:
    """Return the boundary of ``budget``, with ``null_margin`` of its threshold taken as harmless."""
    margin = null_margin * abs(budget.threshold) / 100.0
    if budget.comparison is Comparison.DELTA_PP:
        return NullBoundary(margin, 1.0)
    if budget.worse is Worse.HIGHER:
        return NullBoundary(0.0, 1.0 + margin)
    # Relative to the rate of good events, s_t >= (1 - margin) s_c, said in bad ones.
    return NullBoundary(margin, 1.0 - margin)


def threshold_as_rate(budget: Budget, rate: float) -> float:
    """Return the threshold in terms of the bad rate, where the baseline's is ``rate``."""
    threshold = abs(budget.threshold) / 100.0
    if budget.comparison is Comparison.DELTA_PP:
        return threshold
    return threshold * (rate if budget.worse is Worse.HIGHER else 1.0 - rate)


def log_evidence(counts: Counts, rate: float, boundary: NullBoundary, step: float) -> list[float]:
    """Return the log evidence of one block for each of the alternatives, in nats (design 5.2).

    :param rate: the baseline's bad rate under every alternative; must not be learnt from this block.
    :param step: distance of the alternative with multiple 1 from the boundary. An alternative that would be
        no probability is cut at the end of the scale; one that is not beyond the boundary then gives 0.
    """
    k_c, n_c, k_t, n_t = counts
    if not n_c or not n_t:
        return [0.0] * len(MULTIPLES)
    offset, slope = boundary
    good_c, good_t = n_c - k_c, n_t - k_t
    edge = offset + slope * rate
    logs = []
    for multiple in MULTIPLES:
        release = edge + step * multiple
        if release > MAX_RATE:
            release = MAX_RATE
        if release <= edge:
            logs.append(0.0)
            continue
        null_c = project_on_boundary(rate, release, boundary, n_c, n_t)
        null_t = offset + slope * null_c
        logs.append(
            k_t * log(release / null_t)
            + good_t * log((1.0 - release) / (1.0 - null_t))
            + k_c * log(rate / null_c)
            + good_c * log((1.0 - rate) / (1.0 - null_c))
        )
    return logs


def project_on_boundary(baseline: float, release: float, boundary: NullBoundary, n_c: int, n_t: int) -> float:
    """Return the baseline's rate at the boundary point that is nearest to an alternative beyond it.

    Nearest in ``n_c KL(baseline, q) + n_t KL(release, line.at(q))``, whose derivative is a cubic over
    something positive; its one root between the two rates is found by Newton's method in a shrinking bracket.
    """
    offset, slope = boundary
    low, high = baseline, (release - offset) / slope
    weight = n_t / (n_c + n_t)
    rest, square = 1.0 - weight, slope * slope
    constant, linear = offset * (1.0 - offset), slope * (1.0 - 2.0 * offset)
    c2 = rest * (linear + baseline * square) + weight * square * (1.0 + high)
    c1 = rest * (constant - baseline * linear) - weight * square * high
    c0 = -rest * baseline * constant
    towards_low = rest / (baseline * (1.0 - baseline))
    towards_high = weight * square / (release * (1.0 - release))
    q = (towards_low * low + towards_high * high) / (towards_low + towards_high)
    for _ in range(_NEWTON_STEPS):
        value = ((c2 - square * q) * q + c1) * q + c0
        if value < 0.0:
            low = q
        else:
            high = q
        slope_here = (2.0 * c2 - 3.0 * square * q) * q + c1
        moved = q - value / slope_here if slope_here > 0.0 else low
        if not low < moved < high:
            if high - low <= _TOLERANCE * low:
                return q
            moved = 0.5 * (low + high)
        close = _TOLERANCE * moved * (1.0 - moved)
        if -close <= moved - q <= close:
            return moved
        q = moved
    return q
