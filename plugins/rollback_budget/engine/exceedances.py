"""Quantiles by counting: how many requests of each version lie beyond a bound chosen from the past."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from copy import copy
from functools import reduce
from math import inf
from typing import Self

from rollback_budget.engine.comparison import ArmMeans, View
from rollback_budget.engine.evidence import HALF_LIFE
from rollback_budget.engine.histogram import (
    DEFAULT_QUANTILE,
    Histogram,
    quantile_in,
    quantile_of,
    read_quantile,
)
from rollback_budget.engine.null_boundary import (
    MAX_RATE,
    MIN_RATE,
    MULTIPLES,
    Counts,
    NullBoundary,
    log_evidence,
)
from rollback_budget.engine.threshold_tolerance import BASELINE_LEAST, RELEASE_LEAST
from rollback_budget.model.budget import Budget
from rollback_budget.model.method_plan import Blocks
from rollback_budget.model.spec import RolloutSpec

#: The histograms of both arms, baseline first, over one period.
_Stratum = tuple[Histogram, Histogram]


class ExceedanceStatistic:
    """Requests beyond a bound, tested as proportions are (design 5.2).

    If a harmless release is slower by no more than the margin, ``P(X_t > q) <= P((1 + margin) X_c > q)``. The
    baseline is counted beyond the largest bucket bound that is at most ``q / (1 + margin)``, which only makes
    the test more careful.
    In a rollout with stages every look is a stratum of its own, else every block.
    """

    __slots__ = (
        "_by_look",
        "_decay",
        "_effect",
        "_level",
        "_open",
        "_past",
        "_past_index",
        "_ratio",
        "_recent",
    )

    alternatives = len(MULTIPLES)

    def __init__(self, budget: Budget, spec: RolloutSpec, blocks: Blocks) -> None:
        effect = spec.analysis.design_effect
        assert effect != "auto"
        self._effect = effect
        self._level = quantile_of(budget.metric) or DEFAULT_QUANTILE
        self._ratio = 1.0 + spec.analysis.null_margin * abs(budget.threshold) / 100.0
        self._decay = 0.5 ** (blocks.length / HALF_LIFE)
        self._by_look = spec.has_stages
        #: The strata of the open block: baseline, release.
        self._open: tuple[_Stratum, ...] = ()
        #: The baseline up to block ``_past_index``, older ones with less weight.
        self._past: Histogram = {}
        self._past_index = -1
        self._recent: deque[tuple[int, tuple[_Stratum, ...]]] = deque(maxlen=blocks.in_duration)

    def add(self, view: View, first: int, stop: int, index: int) -> None:
        """Collect the looks ``first`` to ``stop - 1``, which lie in block ``index``."""
        arms = view.arms
        if not arms.release_buckets:
            return
        for look in range(first, stop):
            baseline, release = arms.baseline_buckets[look], arms.release_buckets[look]
            if not self._past and baseline:
                self._past, self._past_index = baseline, index
                continue
            stratum = (baseline or {}, release or {})
            if self._by_look or not self._open:
                self._open += (stratum,)
            else:
                [(open_c, open_t)] = self._open
                self._open = ((add_histograms(open_c, stratum[0]), add_histograms(open_t, stratum[1])),)

    def close(self, index: int) -> list[float] | None:
        """Close block ``index``; return its log evidence for each alternative, None when it has none."""
        strata, self._open = self._open, ()
        logs = None
        both = tuple(stratum for stratum in strata if all(stratum))
        if both:
            each = [found for stratum in both if (found := self._log_evidence(*stratum)) is not None]
            logs = [sum(of_strata) for of_strata in zip(*each, strict=True)] if each else None
            self._recent.append((index, both))
        nothing: Histogram = {}
        baseline = reduce(add_histograms, (of_baseline for of_baseline, _ in strata), nothing)
        if baseline:
            decayed = self._decay ** (index - self._past_index)
            past = {bound: decayed * count for bound, count in self._past.items()}
            # With other bounds the past begins anew: bounds that are lost once would never come back.
            self._past = add_histograms(past, baseline) if past.keys() == baseline.keys() else baseline
            self._past_index = index
        return logs

    def trailing(self) -> ArmMeans:
        """Return both quantiles over the trailing duration."""
        oldest = (self._recent[-1][0] if self._recent else 0) - (self._recent.maxlen or 1)
        strata = [stratum for index, strata in self._recent if index > oldest for stratum in strata]
        sizes = [(max(of_release.values()), max(of_baseline.values())) for of_baseline, of_release in strata]
        baseline: Histogram = {}
        release: Histogram = {}
        for (of_baseline, of_release), (n_t, n_c) in zip(strata, sizes, strict=True):
            if self._by_look:
                # Mantel and Haenszel's weights, as for proportions: both arms count the same in each stratum.
                of_baseline = _scale(of_baseline, n_t / (n_t + n_c) if n_c else 0.0)
                of_release = _scale(of_release, n_c / (n_t + n_c) if n_t else 0.0)
            baseline, release = add_histograms(baseline, of_baseline), add_histograms(release, of_release)
        slow_t, slow_c = read_quantile(release, self._level), read_quantile(baseline, self._level)
        return ArmMeans(
            slow_t.value,
            slow_c.value,
            sum(n_t for n_t, _ in sizes),
            sum(n_c for _, n_c in sizes),
            RELEASE_LEAST * slow_t.is_least + BASELINE_LEAST * slow_c.is_least,
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._recent = self._recent.copy()
        return clone

    def _log_evidence(self, baseline: Histogram, release: Histogram) -> list[float] | None:
        bounds = counted_beyond(self._past, self._level, self._ratio, baseline=baseline, release=release)
        if bounds is None:
            return None
        beyond_c, beyond_t = bounds
        slow, all_past = _beyond(self._past, beyond_c)
        k_c, n_c = _beyond(baseline, beyond_c)
        k_t, n_t = _beyond(release, beyond_t)
        rate = min(max((slow + 0.5) / (all_past + 1.0), MIN_RATE), MAX_RATE)
        counts = Counts(round(k_c), round(n_c), round(k_t), round(n_t))
        logs = log_evidence(counts, rate, NullBoundary(0.0, 1.0), rate)
        return [evidence / self._effect for evidence in logs]


def counted_beyond(
    past: Histogram,
    level: float,
    ratio: float,
    *,
    baseline: Collection[float] | None = None,
    release: Collection[float] | None = None,
) -> tuple[float, float] | None:
    """Return the bounds beyond which requests of the baseline and of the release count; None without such.

    :param past: of the baseline.
    :param ratio: by which a harmless release may be slower.
    :param baseline: the bounds that it has now; by default those that it had.
    :param release: likewise; by default those of the baseline.
    """
    now = past if baseline is None else baseline
    wanted = ratio * quantile_in(past, level)
    beyond_t = min((bound for bound in release or now if wanted <= bound < inf), default=None)
    if beyond_t is None:
        return None
    edge = beyond_t / ratio * (1.0 + MIN_RATE)
    beyond_c = max((bound for bound in past if bound <= edge and bound in now), default=None)
    return None if beyond_c is None else (beyond_c, beyond_t)


def share_beyond(histogram: Histogram, value: float) -> float:
    """Return the share of requests beyond ``value``, taken to lie evenly inside their bucket."""
    total = max(histogram.values(), default=0.0)
    below, start = 0.0, 0.0
    for bound in sorted(histogram):
        count = histogram[bound]
        if value <= bound:
            inside = (value - start) / (bound - start) if bound < inf else 0.0
            return (total - below - inside * (count - below)) / total if total else 0.0
        below, start = count, bound
    return 0.0


def add_histograms(one: Histogram, other: Histogram) -> Histogram:
    """Add two histograms; one that is empty has no bounds, and bounds that only one has are left out."""
    if not one or not other:
        return one or other
    return {bound: count + other[bound] for bound, count in one.items() if bound in other}


def _scale(histogram: Histogram, factor: float) -> Histogram:
    return {bound: factor * count for bound, count in histogram.items()}


def _beyond(histogram: Histogram, bound: float) -> tuple[float, float]:
    """Return how many events lie beyond ``bound``, and how many there are."""
    total = max(histogram.values(), default=0.0)
    return max(total - histogram.get(bound, total), 0.0), total
