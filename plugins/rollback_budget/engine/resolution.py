"""What histograms can tell apart: whether their bounds are close enough, and those of two versions alike."""

from __future__ import annotations

from math import inf, nan

from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.evaluation import UNKNOWN
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import (
    DEFAULT_QUANTILE,
    NOISE,
    Histogram,
    Quantile,
    quantile_in,
    quantile_of,
    read_quantile,
)
from rollback_budget.engine.threshold_tolerance import RELEASE_LEAST, certain, threshold_of
from rollback_budget.model.budget import Budget, Comparison


def can_resolve(histogram: Histogram, budget: Budget, other: Histogram | None = None) -> bool:
    """Whether neighbouring bounds around the quantile are no further apart than the budget's ratio.

    :param other: the other version's; then only bounds that both have count.
    """
    value = quantile_in(histogram, quantile_of(budget.metric) or DEFAULT_QUANTILE)
    bounds = sorted(bound for bound in histogram if 0.0 < bound < inf and (other is None or bound in other))
    below = max((bound for bound in bounds if bound <= value), default=0.0)
    above = min((bound for bound in bounds if bound > value), default=inf)
    return above <= below * (1.0 + abs(budget.threshold) / 100.0) * (1.0 + NOISE)


def on_common_bounds(arms: Arms, budget: Budget) -> Arms:
    """Return ``arms`` with quantiles that can be compared.

    A quantile between two bounds depends on where they lie. At looks at which both versions' quantiles are
    read from histograms of other bounds, both are read from the bounds that both have. Where these are too
    coarse, a look keeps what is certain wherever the quantiles lie between their own bounds; else it is
    unknown (NaN).
    """
    level = quantile_of(budget.metric)
    changed: dict[int, tuple[Quantile, Quantile]] = {}
    for look, (release, baseline) in enumerate(zip(arms.release_buckets, arms.baseline_buckets, strict=True)):
        if level is None or not release or not baseline or release.keys() == baseline.keys():
            continue
        own = read_quantile(release, level), read_quantile(baseline, level)
        # A value that was given beside the histogram is not read from it.
        if (own[0].value, own[1].value) == (arms.release[look], arms.baseline[look]):
            changed[look] = _comparable(budget, level, release, baseline)
    if not changed:
        return arms
    release_values, baseline_values = list(arms.release), list(arms.baseline)
    no = [False] * len(arms.release)
    release_least, baseline_least = list(arms.release_least or no), list(arms.baseline_least or no)
    for look, (of_release, of_baseline) in changed.items():
        release_values[look], release_least[look] = of_release
        baseline_values[look], baseline_least[look] = of_baseline
    return arms.changed(
        release=release_values,
        baseline=baseline_values,
        release_least=release_least,
        baseline_least=baseline_least,
    )


def _comparable(
    budget: Budget, level: float, release: Histogram, baseline: Histogram
) -> tuple[Quantile, Quantile]:
    """Return both quantiles as they can be compared."""
    common = (
        {bound: count for bound, count in release.items() if bound in baseline},
        {bound: count for bound, count in baseline.items() if bound in release},
    )
    if budget.comparison is Comparison.DELTA_PCT and can_resolve(common[1], budget):
        return read_quantile(common[0], level), read_quantile(common[1], level)
    own = read_quantile(release, level), read_quantile(baseline, level)
    edges = _edges(release, level), _edges(baseline, level)
    if all(not edge or edge in common[0] for both in edges for edge in both):
        return own
    (least_t, most_t), (least_c, most_c) = edges
    threshold, formula = threshold_of(budget), DELTA_FORMULAS[budget.comparison].delta
    corners = [(least_t, most_c), (least_t if own[0].is_least else most_t, least_c)]
    found = {
        certain(
            budget,
            threshold.status(budget, formula([of_release], [of_baseline])[0], of_release, of_baseline),
            RELEASE_LEAST * own[0].is_least,
        )
        for of_release, of_baseline in corners
    }
    unknown = Quantile(nan, False)
    return own if len(found) == 1 and UNKNOWN not in found else (unknown, unknown)


def _edges(histogram: Histogram, level: float) -> tuple[float, float]:
    """Return the bounds between which the quantile lies; NaN for a histogram without events."""
    wanted, start = level * max(histogram.values(), default=0.0), 0.0
    for bound in sorted(histogram):
        if wanted > 0.0 and histogram[bound] >= wanted:
            return start, bound
        start = bound
    return nan, nan
