"""What cannot breach need not be folded: a quick look at a whole window, with numpy.

The engine alone decides. This says of most windows that it need not be asked, because at no block both the
evidence and the estimate come near to what it takes; a test holds it against the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Any

from rollback_budget.engine.evidence import HALF_LIFE
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.null_boundary import (
    MAX_RATE,
    MIN_RATE,
    MULTIPLES,
    NullBoundary,
    null_boundary_of,
)
from rollback_budget.engine.sequential_method import blocks_from
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.method_plan import Blocks, Counted, alpha_of, blocks_of, plan_of
from rollback_budget.model.spec import RolloutSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

#: So near to the threshold, and so near to the limit of the evidence in nats, the engine is asked.
_NEAR, _NATS = 0.999, 0.05
_NEWTON_STEPS = 12


def may_breach(rule: RolloutSpec, budget: Budget, arms: Arms, times: Sequence[int], watch_from: int) -> bool:
    """Whether a sequential test of counted events could breach; for every other method the answer is yes.

    :param times: of the looks of ``arms``, in microseconds.
    """
    plan, effect = plan_of(rule, budget), rule.analysis.design_effect
    counted = plan.method is Method.SEQUENTIAL and plan.counted is Counted.EVENTS and not rule.has_stages
    if not counted or effect == "auto" or not times:
        return True
    try:
        import numpy as np
    except ImportError:
        return True
    values = np.array(arms[:4])
    if (np.isnan(values[1::2]) & ~np.isnan(values[0::2])).any():
        # A value came without its number of events: another method may decide.
        return True
    blocks = blocks_of(rule, budget)
    place = (np.array(times) - blocks_from(rule, budget, watch_from) - 1) // duration_to_us(blocks.length)
    index, k, n, first = _in_blocks(values, place, max(budget.min_samples, 1), budget)
    if not index.size:
        return False
    decay = 0.5 ** (blocks.length / HALF_LIFE)
    weights = decay ** -(index - index[0]).astype(float)
    past = [first[0] + np.cumsum(weights * k[1]), first[1] + np.cumsum(weights * n[1])]
    events, requests = (np.concatenate([[begun], sums[:-1]]) for begun, sums in zip(first, past, strict=True))
    faded = 1.0 / np.concatenate([[1.0], weights[:-1]])
    rate = np.clip((events * faded + 0.5) / (requests * faded + 1.0), MIN_RATE, MAX_RATE)
    both = n[0] > 0
    index, k, n, rate = index[both], k[:, both], n[:, both], rate[both]
    if not index.size:
        return False
    logs = _log_evidence(k, n, rate, budget, null_boundary_of(budget, rule.analysis.null_margin)) / max(
        effect, 1.0
    )
    enough = _most(logs, alpha_of(rule), blocks) >= -_NATS
    return bool((enough & _is_beyond(index, k, n, budget, blocks.in_duration)).any())


def _in_blocks(
    values: Floats, place: Floats, least: int, budget: Budget
) -> tuple[Floats, Floats, Floats, tuple[float, float]]:
    """Return blocks with a baseline: index, bad events and requests of release and baseline; the first look.

    The engine only learns the baseline's rate from its first look; that is in none of the blocks.
    """
    import numpy as np

    known = ~np.isnan(values[0::2]) & (values[1::2] >= least)
    n = np.where(known, np.floor(np.nan_to_num(values[1::2]) + 0.5), 0.0)
    k = np.where(known, np.minimum(np.floor(np.nan_to_num(values[0::2] * values[1::2]) + 0.5), n), 0.0)
    if budget.worse is Worse.LOWER:
        k = n - k
    with_baseline = np.flatnonzero(known[1])
    if not with_baseline.size:
        return place[:0], k[:, :0], n[:, :0], (0.0, 0.0)
    at = int(with_baseline[0])
    first = float(k[1, at]), float(n[1, at])
    index, which = np.unique(place[at + 1 :], return_inverse=True)
    k, n = (
        np.stack([np.bincount(which, weights=one[at + 1 :], minlength=index.size) for one in column])
        for column in (k, n)
    )
    there = n[1] > 0
    return index[there], k[:, there], n[:, there], first


def _log_evidence(k: Floats, n: Floats, rate: Floats, budget: Budget, boundary: NullBoundary) -> Floats:
    """Return the log evidence of each block (rows) for each alternative; see ``engine.null_boundary``."""
    import numpy as np

    offset, slope = boundary
    step = np.full_like(rate, abs(budget.threshold) / 100.0)
    if budget.comparison is not Comparison.DELTA_PP:
        step = step * (rate if budget.worse is Worse.HIGHER else 1.0 - rate)
    edge = (offset + slope * rate)[:, None]
    claimed = np.minimum(edge + step[:, None] * np.array(MULTIPLES), MAX_RATE)
    is_beyond, theta = claimed > edge, rate[:, None]
    claimed = np.where(is_beyond, claimed, np.minimum(edge + 1e-6, 1.0))
    low, high = np.broadcast_to(theta, claimed.shape), (claimed - offset) / slope
    (k_t, k_c), (n_t, n_c) = k[:, :, None], n[:, :, None]
    weight, square = n_t / (n_t + n_c), slope * slope
    rest, constant, linear = 1.0 - weight, offset * (1.0 - offset), slope * (1.0 - 2.0 * offset)
    c2 = rest * (linear + theta * square) + weight * square * (1.0 + high)
    c1 = rest * (constant - theta * linear) - weight * square * high
    c0 = -rest * theta * constant
    q = 0.5 * (low + high)
    for _ in range(_NEWTON_STEPS):
        value = ((c2 - square * q) * q + c1) * q + c0
        low, high = np.where(value < 0.0, q, low), np.where(value < 0.0, high, q)
        bend = (2.0 * c2 - 3.0 * square * q) * q + c1
        moved = q - value / np.where(bend > 0.0, bend, 1.0)
        q = np.where((bend > 0.0) & (low < moved) & (moved < high), moved, 0.5 * (low + high))
    null = np.clip(offset + slope * q, MIN_RATE, MAX_RATE)
    found: Floats = (
        k_t * np.log(claimed / null)
        + (n_t - k_t) * np.log((1.0 - np.minimum(claimed, MAX_RATE)) / (1.0 - null))
        + k_c * np.log(theta / q)
        + (n_c - k_c) * np.log((1.0 - theta) / (1.0 - q))
    )
    kept: Floats = np.where(is_beyond, found, 0.0)
    return kept


def _most(logs: Floats, alpha: float, blocks: Blocks) -> Floats:
    """Return how far the evidence is beyond its nearer limit after each block; see ``engine.eprocess``."""
    import numpy as np

    from_start, anywhere = log(2.0 / alpha), log(2.0 * max(blocks.in_window, 1) / alpha)
    start = np.minimum(logs, from_start / blocks.in_duration).cumsum(axis=0)
    capped = np.minimum(logs, anywhere / (blocks.in_duration + 1)).cumsum(axis=0)
    # B = log(1 + e^B) + l, unrolled: the sum over all blocks that it may have begun with.
    before = np.concatenate([np.zeros((1, capped.shape[1])), capped[:-1]])
    detector = capped + np.logaddexp.accumulate(-before, axis=0)
    sums = [np.logaddexp.reduce(one, axis=1) - log(one.shape[1]) for one in (start, detector)]
    most: Floats = np.maximum(sums[0] - from_start, sums[1] - anywhere)
    return most


def _is_beyond(index: Floats, k: Floats, n: Floats, budget: Budget, in_duration: int) -> Floats:
    """Return after which blocks the trailing estimate is about beyond the threshold.

    Mantel and Haenszel's weights, as the engine's trailing estimate has them.
    """
    import numpy as np

    weight = n[0] * n[1] / (n[0] + n[1])
    sums = np.stack([weight, weight * k[0] / n[0], weight * k[1] / n[1]])
    sums = np.concatenate([np.zeros((3, 1)), sums.cumsum(axis=1)], axis=1)
    oldest = np.searchsorted(index, index - in_duration, side="right")
    total, release, baseline = sums[:, 1:] - sums[:, oldest]
    by = (release - baseline) / total
    if budget.comparison is not Comparison.DELTA_PP:
        base = baseline / total if budget.worse is Worse.HIGHER else 1.0 - baseline / total
        # Over a baseline of nothing the engine is asked.
        by = np.where(base > 0.0, by / np.where(base > 0.0, base, 1.0), np.inf)
    beyond: Floats = 100.0 * by >= _NEAR * abs(budget.threshold) - 1e-9
    return beyond
