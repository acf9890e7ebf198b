"""The project's evidence, written a second time: vectorised over rollouts and alternatives (design 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.quality.traffic import DAY, Floats, Traffic

NEVER = np.inf
TINY = 1e-9


@dataclass(frozen=True)
class Rule:
    """A budget on a share of bad requests, and how the evidence is gathered; minutes and probabilities.

    :param multiples: how many budgets the alternatives lie beyond the null margin.
    :param joined: reject when the two tests together have the evidence, instead of either one.
    :param cap: times the design's limit on what one block may add.
    """

    budget: float = 0.02
    minutes: int = 20
    null_margin: float = 0.5
    alpha: float = 0.05
    block: int = 5
    multiples: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    half_life: float = 120.0
    design_effect: float = 1.0
    joined: bool = False
    cap: float = 1.0

    @property
    def duration(self) -> int:
        """Blocks in the budget's duration."""
        return -(-self.minutes // self.block)

    @property
    def blocks(self) -> int:
        """Blocks in a day."""
        return DAY // self.block

    def rejects(self, from_start: Floats, from_any: Floats) -> NDArray[np.bool_]:
        """Return where the evidence, averaged over the alternatives, is sufficient.

        With ``A`` a martingale that starts at 1 and ``B - i`` one that starts at 0, the joined evidence
        ``A/2 + B/(2 T)`` stays below a nonnegative martingale that starts at 1 for ``T`` blocks.
        """
        if self.joined:
            return from_start / 2 + from_any / (2 * self.blocks) >= 1 / self.alpha
        return (from_start >= 2 / self.alpha) | (from_any >= 2 * self.blocks / self.alpha)


def project(
    theta_c: Floats, theta_t: Floats, offset: float, n_c: Floats, n_t: Floats
) -> tuple[Floats, Floats]:
    """Return the reverse information projection on ``q_t = q_c + offset``, by Newton steps in a bracket."""
    low, high = np.broadcast_to(theta_c, theta_t.shape), theta_t - offset
    q = (n_c * theta_c + n_t * (theta_t - offset)) / (n_c + n_t)
    for _ in range(8):
        t = q + offset
        slope = n_c * (q - theta_c) / (q * (1 - q)) + n_t * (t - theta_t) / (t * (1 - t))
        bend = n_c * (theta_c / q**2 + (1 - theta_c) / (1 - q) ** 2) + n_t * (
            theta_t / t**2 + (1 - theta_t) / (1 - t) ** 2
        )
        low, high = np.where(slope < 0, q, low), np.where(slope > 0, q, high)
        moved = q - slope / bend
        q = np.where((low <= moved) & (moved <= high), moved, (low + high) / 2)
    return q, q + offset


def log_evidence(
    k_c: Floats, n_c: Floats, k_t: Floats, n_t: Floats, theta_c: Floats, theta_t: Floats, offset: float
) -> Floats:
    """Return the log evidence against ``p_t <= p_c + offset``; the last axis is the alternatives."""
    q_c, q_t = project(theta_c, theta_t, offset, n_c, n_t)
    return (
        k_t * np.log(theta_t / q_t)
        + (n_t - k_t) * np.log((1 - theta_t) / (1 - q_t))
        + k_c * np.log(theta_c / q_c)
        + (n_c - k_c) * np.log((1 - theta_c) / (1 - q_c))
    )


def sequential(traffic: Traffic, rule: Rule, *, design_effect: Floats | float = 1.0) -> Floats:
    """Return the minute at which each rollout breaches, infinite where it does not."""
    blocks = traffic.by_block(rule.block)
    k_c, n_c, k_t, n_t = blocks
    # Mantel and Haenszel's weights, as the engine's trailing estimate has them.
    weight = n_c * n_t / np.maximum(n_c + n_t, 1)
    gap = weight * (k_t / np.maximum(n_t, 1) - k_c / np.maximum(n_c, 1))
    beyond = trailing(gap, rule.duration) > rule.budget * trailing(weight, rule.duration) * (1 + TINY)
    first = Traffic(*(counts[:, :1] for counts in traffic))
    return fold(
        blocks,
        first,
        beyond,
        rule,
        offset=rule.null_margin * rule.budget,
        step=rule.budget,
        design_effect=np.broadcast_to(np.asarray(design_effect, dtype=float), k_c.shape[:1]),
    )


def fold(
    blocks: Traffic,
    first: Traffic,
    beyond: NDArray[np.bool_],
    rule: Rule,
    *,
    offset: float,
    step: float,
    design_effect: Floats,
) -> Floats:
    """Fold blocks of counts; return the minute of the breach.

    :param first: the look that only gives the baseline's rate, as counts that block 0 holds too.
    :param beyond: whether the estimate over the trailing duration up to a block is beyond the budget;
        its first column is the first whole duration.
    """
    k_c, n_c, _, _ = blocks
    rollouts, length = k_c.shape
    duration, window = rule.duration, rule.blocks
    steps = np.array(rule.multiples) * step
    cap_start = rule.cap * np.log(2 / rule.alpha) / duration
    cap_any = rule.cap * np.log(2 * window / rule.alpha) / (duration + 1)
    decay = 2.0 ** (-rule.block / rule.half_life)
    from_start = np.zeros((rollouts, len(steps)))
    from_any = np.full((rollouts, len(steps)), -np.inf)
    events, requests = first.baseline_bad[:, 0].copy(), first.baseline[:, 0].copy()
    breach = np.full(rollouts, NEVER)
    live = np.arange(rollouts)
    for block in range(length):
        counts = [arm[live, block] for arm in blocks]
        if block == 0:
            counts = [count - primed[:, 0] for count, primed in zip(counts, first, strict=True)]
        rate = np.clip((events[live] + 0.5) / (requests[live] + 1), TINY, 1 - TINY)[:, None]
        release = np.minimum(rate + offset + steps, 1 - TINY)
        kc, nc, kt, nt = (count[:, None] for count in counts)
        known = (nc > 0) & (nt > 0)
        logs = log_evidence(kc, np.maximum(nc, 1), kt, np.maximum(nt, 1), rate, release, offset)
        logs = np.where(known, logs, 0.0) / design_effect[live, None]
        from_start[live] += np.minimum(logs, cap_start)
        rising = np.logaddexp(0.0, from_any[live]) + np.minimum(logs, cap_any)
        from_any[live] = np.where(known, rising, from_any[live])
        faded = decay if block else 0.0
        events = faded * events
        requests = faded * requests
        events[live] += k_c[live, block]
        requests[live] += n_c[live, block]
        if block + 1 < duration:
            continue
        rejects = rule.rejects(np.exp(from_start[live]).mean(axis=1), np.exp(from_any[live]).mean(axis=1))
        hit = rejects & beyond[live, block + 1 - duration]
        breach[live[hit]] = (block + 1) * rule.block
        live = live[~hit]
        if not live.size:
            break
    return breach


def trailing(counts: Floats, width: int) -> Floats:
    """Return the sums over each ``width`` neighbours along the second axis."""
    padded = np.concatenate([np.zeros((counts.shape[0], 1)), counts.cumsum(axis=1)], axis=1)
    return padded[:, width:] - padded[:, :-width]


def measured_design_effect(traffic: Traffic, batch: int = 20) -> Floats:
    """Return, for each rollout, long-run over binomial variance of the arms' difference without a change.

    From non-overlapping batches of minutes, long against the memory of the traffic; at least 1.
    """
    k_c, n_c, k_t, n_t = traffic.by_block(batch)
    pooled = (k_c + k_t) / np.maximum(n_c + n_t, 1)
    binomial = pooled * (1 - pooled) * (1 / np.maximum(n_c, 1) + 1 / np.maximum(n_t, 1))
    gap = k_t / np.maximum(n_t, 1) - k_c / np.maximum(n_c, 1)
    return np.maximum((gap**2).sum(axis=1) / binomial.sum(axis=1), 1.0)
