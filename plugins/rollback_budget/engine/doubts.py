"""Doubts about the comparison itself: traffic that is not divided as declared, versions that are one series.

They never decide anything; the verdict and the log say them.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from math import lgamma, log
from typing import Self

from rollback_budget.engine.frame import Arms, Frame
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpTarget

#: The error rate of the test, over the whole window.
ALPHA = 0.001
#: The prior of the alternative, in requests: centred on the declared share.
PRIOR = 100.0
#: The ratio of the versions' requests, over the declared one, is not doubted between these: sessions, caches
#: and retries move it a little, and a million requests would prove it.
NEAR = (0.8, 1.25)
#: Fewer looks than this may be equal by chance.
FEWEST_EQUAL = 10
#: What is measured anew for every request.
_MEASURED = (MetricKind.QUANTILE, MetricKind.MEAN, MetricKind.PROPORTION)


@dataclass(slots=True)
class _Seen:
    """What was seen of one series at looks at which both versions are known.

    :param equal: of the latest looks, how many gave both versions the same value and count.
    """

    release: float = 0.0
    baseline: float = 0.0
    equal: int = 0


class Doubts:
    """Follows the requests of both versions, and whether they are two versions at all."""

    def __init__(self, spec: RolloutSpec) -> None:
        self._spec = spec
        self._share = declared_share(spec)
        self._seen = {
            budget.series: _Seen()
            for budget in spec.budgets
            if budget.slice is None and spec.metric(budget.metric).kind in _MEASURED
        }

    def advance(self, frame: Frame, first: int, stop: int) -> None:
        """Go on over the looks ``first`` to ``stop - 1`` of the series in ``frame``."""
        for series, seen in self._seen.items():
            if series in frame.arms:
                _count(seen, frame.arms[series], first, stop)

    def said(self) -> tuple[str, ...]:
        """Return what is doubtful, a sentence each."""
        return tuple(text for text in (self._of_share(), self._of_identity()) if text is not None)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._seen = {series: copy(seen) for series, seen in self._seen.items()}
        return clone

    def _of_share(self) -> str | None:
        most = max(self._seen.values(), key=lambda seen: seen.release + seen.baseline, default=None)
        if self._share is None or most is None or not is_mismatch(most.release, most.baseline, self._share):
            return None
        total = most.release + most.baseline
        return (
            f"the comparison is doubtful: {self._spec.release} had {most.release / total:.3g} of the requests"
            f" ({most.release:.0f} of {total:.0f}), and {self._share:.3g} was declared (`target.ship_share`)"
        )

    def _of_identity(self) -> str | None:
        same = [series for series, seen in self._seen.items() if seen.equal >= FEWEST_EQUAL]
        if not same:
            return None
        return (
            f"the comparison is doubtful: {', '.join(same)} of {self._spec.release} and of"
            f" {self._spec.baseline} are equal to the last digit, as of one and the same series"
        )


def declared_share(spec: RolloutSpec) -> float | None:
    """Return the release's share of the traffic, None where it is not declared or changes on the way."""
    target = spec.target
    if target is None or target.stages or spec.analysis.baseline == "static":
        return None
    if isinstance(target, HttpTarget) and target.write is None:
        return None
    return target.ship_share if 0.0 < target.ship_share < 1.0 else None


def is_mismatch(release: float, baseline: float, share: float) -> bool:
    """Say whether the requests of both versions do not fit the declared share, for certain and by far.

    Under the declared share, the Bayes factor of a Dirichlet-multinomial against it stays below ``1 / ALPHA``
    for ever with probability ``1 - ALPHA`` (Lindon and Malek 2022, "Anytime-valid inference for multinomial
    count data").

    :param share: of the release.
    """
    if not release + baseline:
        return False
    ratio = (release / baseline if baseline else float("inf")) * (1.0 - share) / share
    if NEAR[0] <= ratio <= NEAR[1]:
        return False
    a, b = PRIOR * share, PRIOR * (1.0 - share)
    factor = _log_beta(a + release, b + baseline) - _log_beta(a, b)
    factor -= release * log(share) + baseline * log(1.0 - share)
    return factor > -log(ALPHA)


def _count(seen: _Seen, arms: Arms, first: int, stop: int) -> None:
    release_n, baseline_n = arms.release_n[first:stop], arms.baseline_n[first:stop]
    of_release, of_baseline = sum(release_n), sum(baseline_n)
    if of_release != of_release or of_baseline != of_baseline:
        both = [(one, other) for one, other in zip(release_n, baseline_n, strict=True) if one + other >= 0.0]
        of_release, of_baseline = sum(one for one, _ in both), sum(other for _, other in both)
    seen.release += of_release
    seen.baseline += of_baseline
    seen.equal = _equal(seen.equal, arms, first, stop)


def _equal(before: int, arms: Arms, first: int, stop: int) -> int:
    """Return how many of the latest looks up to ``stop`` gave both versions the same, one after the other.

    :param before: how many did up to ``first``.
    """
    equal = 0
    for look in range(stop - 1, first - 1, -1):
        release, baseline = arms.release[look], arms.baseline[look]
        if release != release or baseline != baseline or release in (0.0, 1.0):
            continue
        release_n, baseline_n = arms.release_n[look], arms.baseline_n[look]
        same_n = release_n == baseline_n or (release_n != release_n and baseline_n != baseline_n)
        if release != baseline or not same_n:
            return equal
        equal += 1
    return before + equal


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
