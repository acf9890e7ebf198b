"""What people use today, on the same simulated rollouts: each rule gives the minute of its rollback."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from bench.quality.sequential import NEVER, TINY, Rule, trailing
from bench.quality.traffic import DAY, Floats, Traffic

Booleans = NDArray[np.bool_]


def per_minute_for(traffic: Traffic, rule: Rule) -> Floats:
    """An alert on each minute's value with ``for: 20m``; it is also this project's ``threshold``.

    A minute without requests of an arm is not bad, as in an alerting rule whose series is missing.
    """
    bad = gap_of(traffic) > rule.budget
    held = np.zeros(bad.shape[0])
    breach = np.full(bad.shape[0], NEVER)
    for minute in range(DAY):
        held = np.where(bad[:, minute], held + 1, 0)
        # The first bad minute starts the clock, so 20 minutes are held at the 21st.
        breach = np.where((held > rule.minutes) & ~np.isfinite(breach), minute + 1, breach)
    return breach


def trailing_average(traffic: Traffic, rule: Rule) -> Floats:
    """Roll back when the value over the trailing 20 minutes is beyond the budget, at any minute."""
    gap = gap_of(Traffic(*(trailing(counts, rule.minutes) for counts in traffic)))
    return _first(gap > rule.budget) + rule.minutes - 1


def three_failures(traffic: Traffic, rule: Rule) -> Floats:
    """A measurement every 5 minutes over 5 minutes; the third failure rolls back (a limit of 2)."""
    failed = gap_of(traffic.by_block(5)) > rule.budget
    return _first(failed.cumsum(axis=1) >= 3) * 5


def mann_whitney(traffic: Traffic, rule: Rule) -> Floats:
    """Mann–Whitney at 98 % (two-sided) on the last 60 one-minute values, every 10 minutes.

    A failing judgement also needs a difference of means beyond the budget.
    """
    width, every = 60, 10
    breach = np.full(traffic.baseline.shape[0], NEVER)
    live = np.arange(breach.size)
    for stop in range(width, DAY + 1, every):
        part = slice(stop - width, stop)
        values = []
        for bad, seen in ((traffic.baseline_bad, traffic.baseline), (traffic.release_bad, traffic.release)):
            k, n = bad[live, part], seen[live, part]
            mean = k.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1)
            values.append(np.where(n > 0, k / np.maximum(n, 1), mean))
        beyond = values[1].mean(axis=1) - values[0].mean(axis=1) > rule.budget
        if not beyond.any():
            continue
        ranks = rankdata(np.concatenate([values[1][beyond], values[0][beyond]], axis=1), axis=1)
        centred = ranks - ranks.mean(axis=1, keepdims=True)
        # The variance over all ways to deal the ranks out, which takes care of ties.
        variance = (centred**2).sum(axis=1) * width * width / (2 * width * (2 * width - 1))
        z = (centred[:, :width].sum(axis=1) - 0.5) / np.sqrt(np.maximum(variance, 1e-12))
        hit = live[beyond][z > norm.ppf(0.99)]
        breach[hit] = stop
        live = np.setdiff1d(live, hit, assume_unique=True)
    return breach


def z_test(traffic: Traffic, _rule: Rule) -> Floats:
    """A fixed-size z-test (one-sided, 5 %) on everything since the start, repeated every minute."""
    k_c, n_c, k_t, n_t = (counts.cumsum(axis=1) for counts in traffic)
    p_c, p_t = k_c / np.maximum(n_c, 1), k_t / np.maximum(n_t, 1)
    variance = p_c * (1 - p_c) / np.maximum(n_c, 1) + p_t * (1 - p_t) / np.maximum(n_t, 1)
    z = (p_t - p_c) / np.sqrt(np.maximum(variance, 1e-12))
    rejects = (z > norm.ppf(0.95)) & (np.minimum(k_c, k_t) >= 5)
    return _first(rejects)


def gap_of(traffic: Traffic) -> Floats:
    """Return how much larger the release's share of bad requests is; NaN where an arm has none."""
    k_c, n_c, k_t, n_t = traffic
    with np.errstate(invalid="ignore", divide="ignore"):
        return k_t / n_t - k_c / n_c


def sign(traffic: Traffic, rule: Rule) -> Floats:
    """The project's ``sign``: a test of the sign of each block's difference, from values alone (design 5.2).

    Its blocks are an eighth of the duration: 2.5 minutes hold two looks and three in turn.
    """
    difference = gap_of(traffic)
    known = np.isfinite(difference)
    duration = 8
    block = rule.minutes / duration
    index = np.ceil(np.arange(1, DAY + 1) / block).astype(int) - 1
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    total = np.add.reduceat(np.where(known, difference, 0.0), starts, axis=1)
    looks = np.add.reduceat(known.astype(float), starts, axis=1)
    side = np.sign(total / np.maximum(looks, 1) - rule.null_margin * rule.budget)
    fractions = np.log1p(np.array([0.2, 0.5, 0.9]) * np.where(side > 0, 1.0, -1.0)[:, :, None])
    window = starts.size
    limits = np.log(2 / rule.alpha), np.log(2 * window / rule.alpha)
    from_start = np.zeros((total.shape[0], 3))
    from_any = np.full_like(from_start, -np.inf)
    rejects = np.zeros(total.shape, dtype=bool)
    for place in range(window):
        seen = looks[:, place, None] > 0
        from_start += np.where(seen, np.minimum(fractions[:, place], limits[0] / duration), 0.0)
        rising = np.logaddexp(0.0, from_any) + np.minimum(fractions[:, place], limits[1] / (duration + 1))
        from_any = np.where(seen, rising, from_any)
        ahead, detector = np.exp(from_start).mean(axis=1), np.exp(from_any).mean(axis=1)
        rejects[:, place] = (ahead >= np.exp(limits[0] - TINY)) | (detector >= np.exp(limits[1] - TINY))
    mean = trailing(total, duration) / np.maximum(trailing(looks, duration), 1)
    first = _first(rejects[:, duration - 1 :] & (mean > rule.budget)) + duration - 1
    # A block that ends between two looks is closed at the second one.
    return np.ceil(first * block)


RULES: dict[str, Callable[[Traffic, Rule], Floats]] = {
    "sign": sign,
    "threshold = per-minute `for: 20m`": per_minute_for,
    "trailing 20 min average": trailing_average,
    "3 failures of 5 min each": three_failures,
    "Mann–Whitney 98 %, 60 min": mann_whitney,
    "z-test at each look": z_test,
}


def _first(events: Booleans) -> Floats:
    """Return the place of the first event of each row, counted from 1; infinite without one."""
    return np.where(events.any(axis=1), events.argmax(axis=1) + 1.0, NEVER)
