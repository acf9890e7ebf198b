"""Block statistics: the evidence of one block's looks against "no harm", for counts and for values."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from functools import reduce
from math import log, log1p
from operator import add, or_
from typing import Protocol, Self

from rollback_budget.engine.comparison import NOTHING_KNOWN, ArmMeans, View, least_at
from rollback_budget.engine.delta import delta_of
from rollback_budget.engine.evaluation import BAD, UNKNOWN
from rollback_budget.engine.frame import NEAR_RATE
from rollback_budget.engine.null_boundary import (
    MAX_RATE,
    MIN_RATE,
    MULTIPLES,
    Counts,
    log_evidence,
    null_boundary_of,
    threshold_as_rate,
)
from rollback_budget.engine.threshold_tolerance import threshold_of
from rollback_budget.model.budget import Budget, Worse
from rollback_budget.model.method_plan import SIGN_BETS, Blocks
from rollback_budget.model.spec import RolloutSpec

#: The baseline's rate is a mean over its past in which events of two hours ago have half the weight.
HALF_LIFE = timedelta(hours=2)
#: How many times the baseline's the release's rate of events is, under each alternative.
RATE_RATIOS = (1.5, 2.0, 4.0, 8.0, 16.0)


class BlockStatistic(Protocol):
    """Collects the looks of the open block; when the block is closed, returns their log evidence."""

    alternatives: int

    def add(self, view: View, first: int, stop: int, index: int) -> None:
        """Collect the looks ``first`` to ``stop - 1``, which lie in block ``index``."""
        ...

    def close(self, index: int) -> list[float] | None:
        """Close block ``index``; return its log evidence for each alternative, None when it has none."""
        ...

    def trailing(self) -> ArmMeans:
        """Return both arms over the trailing duration; NaN when nothing is known of it."""
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


class ProportionStatistic:
    """Bad events among requests, tested exactly (design 5.2).

    A sample's number of events is its value times ``n``, to the nearest whole number. Samples of less than
    ``min_samples`` are left out, as their looks are. The first look with a baseline only gives its rate.
    In a rollout with stages every look is a stratum of its own, else every block.
    """

    __slots__ = (
        "_blocks",
        "_boundary",
        "_budget",
        "_by_look",
        "_decay",
        "_effect",
        "_least",
        "_open",
        "_past",
        "_past_index",
        "_recent",
    )

    alternatives = len(MULTIPLES)

    def __init__(self, budget: Budget, spec: RolloutSpec, blocks: Blocks) -> None:
        effect = spec.analysis.design_effect
        assert effect != "auto"
        self._budget = budget
        self._effect = effect
        self._least = max(budget.min_samples, 1)
        self._boundary = null_boundary_of(budget, spec.analysis.null_margin)
        self._decay = 0.5 ** (blocks.length / HALF_LIFE)
        self._by_look = spec.has_stages
        #: The strata of the open block.
        self._open: tuple[Counts, ...] = ()
        #: Events and requests of the baseline up to block ``_past_index``, older ones with less weight.
        self._past = (0.0, 0.0)
        self._past_index = -1
        self._blocks = blocks.in_duration
        #: The strata of the trailing duration, each behind its block's index.
        self._recent: tuple[tuple[int, int, int, int, int], ...] = ()

    def add(self, view: View, first: int, stop: int, index: int) -> None:
        """Collect the looks ``first`` to ``stop - 1``, which lie in block ``index``."""
        arms, least = view.arms, self._least
        if self._past_index < 0:
            first = self._learn_first_rate(view, first, stop, index)
        if self._by_look:
            self._open += tuple(
                Counts(
                    *_events(arms.baseline, arms.baseline_n, look, look + 1, least),
                    *_events(arms.release, arms.release_n, look, look + 1, least),
                )
                for look in range(first, stop)
            )
            return
        k_c, n_c, k_t, n_t = self._open[0] if self._open else (0, 0, 0, 0)
        more_k, more_n = _events(arms.baseline, arms.baseline_n, first, stop, least)
        k_c, n_c = k_c + more_k, n_c + more_n
        more_k, more_n = _events(arms.release, arms.release_n, first, stop, least)
        self._open = (Counts(k_c, n_c, k_t + more_k, n_t + more_n),)

    def close(self, index: int) -> list[float] | None:
        """Close block ``index``; return its log evidence for each alternative, None when it has none."""
        strata, self._open = self._open, ()
        if self._budget.worse is Worse.LOWER:
            strata = tuple(Counts(s.n_c - s.k_c, s.n_c, s.n_t - s.k_t, s.n_t) for s in strata)
        logs = None
        both = tuple(counts for counts in strata if counts.n_c and counts.n_t)
        if both:
            events, requests = self._past
            rate = min(max((events + 0.5) / (requests + 1.0), MIN_RATE), MAX_RATE)
            step = threshold_as_rate(self._budget, rate)
            logs = log_evidence(both[0], rate, self._boundary, step)
            for counts in both[1:]:
                logs = list(map(add, logs, log_evidence(counts, rate, self._boundary, step)))
            if self._effect > 1.0:
                logs = [evidence / self._effect for evidence in logs]
            kept = (stratum for stratum in self._recent if stratum[0] > index - self._blocks)
            self._recent = (*kept, *((index, *counts) for counts in both))
        k_c, n_c = sum(counts.k_c for counts in strata), sum(counts.n_c for counts in strata)
        if n_c:
            decayed = self._decay ** (index - self._past_index)
            events, requests = self._past
            self._past = (decayed * events + k_c, decayed * requests + n_c)
            self._past_index = index
        return logs

    def trailing(self) -> ArmMeans:
        """Return both rates over the trailing duration, each stratum weighted by its information.

        Mantel and Haenszel's weights: pooling an arm's counts would compare different times of the day while
        traffic moves from one arm to the other.
        """
        blocks = [Counts(*counts) for _, *counts in self._recent]
        weights = [n_c * n_t / (n_c + n_t) for _, n_c, _, n_t in blocks]
        total = sum(weights)
        if not total:
            return NOTHING_KNOWN
        release = sum(w * b.k_t / b.n_t for w, b in zip(weights, blocks, strict=True)) / total
        baseline = sum(w * b.k_c / b.n_c for w, b in zip(weights, blocks, strict=True)) / total
        if self._budget.worse is Worse.LOWER:
            release, baseline = 1.0 - release, 1.0 - baseline
        requests = (float(sum(b.n_t for b in blocks)), float(sum(b.n_c for b in blocks)))
        return ArmMeans(release, baseline, *requests)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        return copy(self)

    def _learn_first_rate(self, view: View, first: int, stop: int, index: int) -> int:
        arms = view.arms
        for look in range(first, stop):
            k, n = _events(arms.baseline, arms.baseline_n, look, look + 1, self._least)
            if n:
                self._past = (float(n - k if self._budget.worse is Worse.LOWER else k), float(n))
                self._past_index = index
                return look + 1
        return stop


class SignStatistic:
    """Whether the release was worse than the margin allows, block by block: for values without counts."""

    __slots__ = ("_blocks", "_budget", "_margin", "_open", "_recent")

    alternatives = len(SIGN_BETS)

    def __init__(self, budget: Budget, spec: RolloutSpec, blocks: Blocks) -> None:
        self._budget = budget
        self._margin = threshold_of(budget, spec.analysis.null_margin)
        #: Sums of both arms, known looks, and what is only known at least.
        self._open = (0.0, 0.0, 0, 0)
        self._blocks = blocks.in_duration
        #: The same of the trailing duration's blocks, each behind its index.
        self._recent: tuple[tuple[int, float, float, int, int], ...] = ()

    def add(self, view: View, first: int, stop: int, index: int) -> None:  # noqa: ARG002
        """Collect the known looks from ``first`` to ``stop - 1``."""
        release, baseline, looks, least = self._open
        values, others = view.arms.release, view.arms.baseline
        for look in range(first, stop):
            if view.statuses[look] is not UNKNOWN:
                release += values[look]
                baseline += others[look]
                looks += 1
                least |= least_at(view.arms, look)
        self._open = (release, baseline, looks, least)

    def close(self, index: int) -> list[float] | None:
        """Close block ``index``; return its log evidence for each alternative, None when it has none."""
        (release, baseline, looks, least), self._open = self._open, (0.0, 0.0, 0, 0)
        if not looks:
            return None
        kept = (block for block in self._recent if block[0] > index - self._blocks)
        self._recent = (*kept, (index, release, baseline, looks, least))
        release, baseline = release / looks, baseline / looks
        delta = delta_of(self._budget, release, baseline)
        status = self._margin.status(self._budget, delta, release, baseline, least)
        return None if status is UNKNOWN else _WORSE if status is BAD else _NOT_WORSE

    def trailing(self) -> ArmMeans:
        """Return both means over the trailing duration."""
        blocks = self._recent
        looks = sum(block[3] for block in blocks)
        if not looks:
            return NOTHING_KNOWN
        nan, least = float("nan"), reduce(or_, (block[4] for block in blocks))
        return ArmMeans(sum(b[1] for b in blocks) / looks, sum(b[2] for b in blocks) / looks, nan, nan, least)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        return copy(self)


class CountStatistic:
    """Events by exposure: of all events in a block, as many are the release's as its exposure explains.

    Given their number, the release's events are binomial when both come at the same rate (Przyborowski and
    Wilenski 1940); the likelihood ratio's expectation is then 1, and less when the release's rate is lower.
    In a rollout with stages every look is a stratum of its own, else every block.
    """

    __slots__ = ("_by_look", "_now", "_open", "_then")

    alternatives = len(RATE_RATIOS)

    def __init__(self, budget: Budget, spec: RolloutSpec, blocks: Blocks) -> None:  # noqa: ARG002
        self._by_look = spec.has_stages
        #: Events and exposure since the window began: release, its exposure, baseline, its exposure.
        self._now = self._then = (0.0, 0.0, 0.0, 0.0)
        #: The log evidence of the open block's looks.
        self._open: list[float] | None = None

    def add(self, view: View, first: int, stop: int, index: int) -> None:  # noqa: ARG002
        """Take the sums at look ``stop - 1``, with stages at every look."""
        arms = view.arms
        for last in range(first, stop) if self._by_look else (stop - 1,):
            self._now = (arms.release[last], arms.release_n[last], arms.baseline[last], arms.baseline_n[last])
            if self._by_look and (logs := self._log_evidence()) is not None:
                self._open = logs if self._open is None else list(map(add, self._open, logs))

    def close(self, index: int) -> list[float] | None:  # noqa: ARG002
        """Close the block; return its log evidence for each ratio of rates, None when it has none."""
        if not self._by_look:
            return self._log_evidence()
        logs, self._open = self._open, None
        return logs

    def _log_evidence(self) -> list[float] | None:
        k_t, e_t, k_c, e_c = (now - then for now, then in zip(self._now, self._then, strict=True))
        self._then = self._now
        if not (e_t > 0.0 and e_c > 0.0 and k_t >= 0.0 and k_c >= 0.0):
            return None
        k_t, k_c, share = round(k_t), round(k_c), e_t / (e_t + e_c)
        return [k_t * log(ratio) - (k_t + k_c) * log1p((ratio - 1.0) * share) for ratio in RATE_RATIOS]

    def trailing(self) -> ArmMeans:
        """Return the sums so far: ``_increase`` counts from the window's beginning."""
        release, release_n, baseline, baseline_n = self._now
        return ArmMeans(release, baseline, release_n, baseline_n)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        return copy(self)


_WORSE = [log1p(fraction) for fraction in SIGN_BETS]
_NOT_WORSE = [log1p(-fraction) for fraction in SIGN_BETS]


def _events(values: list[float], counts: list[float], first: int, stop: int, least: int) -> tuple[int, int]:
    """Return events and requests of one arm, from rates and numbers of requests."""
    events = requests = 0
    for look in range(first, stop):
        value, n = values[look], counts[look]
        if n >= least and -NEAR_RATE <= value <= 1.0 + NEAR_RATE:
            whole, bad = int(n + 0.5), int(value * n + 0.5)
            requests += whole
            events += bad if bad < whole else whole
    return events, requests
