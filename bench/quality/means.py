"""``python -m bench.quality.means``: by which test a budget on a mean is decided, found by simulation.

Compares the engine's ``sign`` on means by the minute with tests that also know the sum of squares. Costs of
requests are log-normal; the budget is +15 % for 30 minutes. The seed is fixed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from math import e, isfinite, log, sqrt
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import log_ndtr

from bench.quality.sequential import NEVER, TINY, trailing
from bench.quality.traffic import DAY, Floats

Booleans = NDArray[np.bool_]

SEED = 20261002
ROLLOUTS, PART = 1000, 125
RATES = (5, 30, 200)
#: A request costs ``MEAN`` on average, which drifts by ``DRIFT`` of it over the day, in both arms alike.
MEAN, SIGMA, DRIFT = 0.02, 1.0, 0.1
BUDGET, MINUTES, NULL_MARGIN, ALPHA = 0.15, 30, 0.5, 0.05
#: The highest ratio of the means that is still harmless.
LINE = 1 + NULL_MARGIN * BUDGET
SIGN_FRACTIONS = (0.2, 0.5, 0.9)
#: The alternatives for a block's z-score.
Z_FRACTIONS = (0.125, 0.25, 0.5, 1.0, 2.0)
#: The half-normal mixture's scale: what a block's z-score is expected to be, roughly.
SPREAD = 0.5

#: Each scenario: by how much of the baseline's mean the release is dearer, and its share of the traffic.
SCENARIOS = {
    "no harm": (0.0, 0.5),
    "+7.5 % (half the budget)": (0.075, 0.5),
    "+30 %": (0.30, 0.5),
    "+60 %": (0.60, 0.5),
    "+7.5 %, the release gets 5 %": (0.075, 0.05),
    "no harm, the release gets 95 %": (0.0, 0.95),
    "+7.5 %, the release gets 95 %": (0.075, 0.95),
}


class Sums(NamedTuple):
    """Requests, sum and sum of squares of one arm by minute, each of shape (rollouts, minutes)."""

    requests: Floats
    total: Floats
    squares: Floats

    def times(self, factor: Floats | float) -> Sums:
        """Return the sums of costs that are ``factor`` times as high."""
        return Sums(self.requests, self.total * factor, self.squares * np.square(factor))

    def by_block(self, starts: NDArray[np.intp]) -> Sums:
        """Return the sums over the blocks that begin at ``starts``."""
        return Sums(*(np.add.reduceat(values, starts, axis=1) for values in self))


Rule = Callable[[Sums, Sums], Floats]


def draw(per_minute: float, rollouts: int, random: np.random.Generator) -> Sums:
    """Draw the requests of one arm, each by itself; a request costs 1 on average."""
    count = random.poisson(per_minute, (rollouts, DAY))
    total, squares = np.zeros(count.shape), np.zeros(count.shape)
    for row, seen in enumerate(count):
        costs = random.standard_normal(seen.sum() + 1, dtype=np.float32)
        np.exp(SIGMA * costs - SIGMA**2 / 2, out=costs)
        first = np.cumsum(seen) - seen
        total[row] = np.where(seen > 0, np.add.reduceat(costs, first), 0.0)
        squares[row] = np.where(seen > 0, np.add.reduceat(costs**2, first), 0.0)
    return Sums(count.astype(float), total, squares)


def sign(baseline: Sums, release: Sums) -> Floats:
    """The engine's ``sign``: tests whether a block's release was worse, from the means by the minute."""
    duration = 8
    starts, _ = cut(duration)
    known = (baseline.requests > 0) & (release.requests > 0)
    looks, t, c = (
        np.add.reduceat(np.where(known, values, 0.0), starts, axis=1)
        for values in (known, mean_of(release), mean_of(baseline))
    )
    fractions = np.array(SIGN_FRACTIONS) * np.where(t > LINE * c, 1.0, -1.0)[:, :, None]
    beyond = trailing(t, duration) > (1 + BUDGET) * trailing(c, duration)
    return breach(rejects(np.log1p(fractions), looks > 0, duration), beyond, duration)


def z_mixture(baseline: Sums, release: Sums, duration: int) -> Floats:
    """A mixture of alternatives for each block's z-score, added up as the engine adds up its evidence."""
    z, known, beyond = z_scores(baseline, release, duration)
    fractions = np.array(Z_FRACTIONS)
    return breach(rejects(z[:, :, None] * fractions - fractions**2 / 2, known, duration), beyond, duration)


def mixture(baseline: Sums, release: Sums, duration: int) -> Floats:
    """Robbins's half-normal mixture over the sum of the z-scores since the start, with all of alpha."""
    z, known, beyond = z_scores(baseline, release, duration)
    total, blocks = np.cumsum(np.where(known, z, 0.0), axis=1), np.cumsum(known, axis=1)
    spread = 1 + SPREAD**2 * blocks
    logs = (
        log(2)
        - np.log(spread) / 2
        + SPREAD**2 * total**2 / (2 * spread)
        + log_ndtr(SPREAD * total / np.sqrt(spread))
    )
    return breach(logs >= log(1 / ALPHA), beyond, duration)


RULES: dict[str, Rule] = {
    "sign": sign,
    "z, blocks of 1/8": lambda baseline, release: z_mixture(baseline, release, 8),
    "z, blocks of 1/4": lambda baseline, release: z_mixture(baseline, release, 4),
    "z, half-normal mixture": lambda baseline, release: mixture(baseline, release, 4),
}


def cut(duration: int) -> tuple[NDArray[np.intp], float]:
    """Return at which minutes the blocks begin, and a block's length, a ``duration``-th of the budget's."""
    length = MINUTES / duration
    index = np.ceil(np.arange(1, DAY + 1) / length - TINY).astype(int) - 1
    return np.flatnonzero(np.diff(index, prepend=-1)), length


def mean_of(arm: Sums) -> Floats:
    """Return the means; 0 where there is no request."""
    return arm.total / np.maximum(arm.requests, 1)


def z_scores(baseline: Sums, release: Sums, duration: int) -> tuple[Floats, Booleans, Booleans]:
    """Return each block's z-score against the line, which are known, and where the estimate is beyond."""
    starts, _ = cut(duration)
    c, t = baseline.by_block(starts), release.by_block(starts)
    mean_c, mean_t = mean_of(c), mean_of(t)
    variance = squared_error(t) + LINE**2 * squared_error(c)
    known = (c.requests > 1) & (t.requests > 1) & (variance > 0)
    z = (mean_t - LINE * mean_c) / np.sqrt(np.where(known, variance, 1.0))
    weight = c.requests * t.requests / np.maximum(c.requests + t.requests, 1)
    trailing_t, trailing_c = trailing(weight * mean_t, duration), trailing(weight * mean_c, duration)
    return z, known, trailing_t > (1 + BUDGET) * trailing_c


def squared_error(arm: Sums) -> Floats:
    """Return the squared standard errors of the means; 0 where there are less than two requests."""
    spread = arm.squares - arm.total * mean_of(arm)
    return np.maximum(spread, 0.0) / np.maximum(arm.requests * (arm.requests - 1), 1)


def rejects(logs: Floats, known: Booleans, duration: int) -> Booleans:
    """Return after which blocks the evidence suffices; the last axis of ``logs`` is the alternatives."""
    window = logs.shape[1]
    start_limit, any_limit = log(2 / ALPHA), log(2 * window / ALPHA)
    seen = known[:, :, None]
    from_start = np.where(seen, np.minimum(logs, start_limit / duration), 0.0).cumsum(axis=1)
    capped = np.minimum(logs, any_limit / (duration + 1))
    from_any = np.full((logs.shape[0], logs.shape[2]), -np.inf)
    detector = np.empty(known.shape)
    for block in range(window):
        rising = np.logaddexp(0.0, from_any) + capped[:, block]
        from_any = np.where(seen[:, block], rising, from_any)
        detector[:, block] = np.logaddexp.reduce(from_any, axis=1)
    alternatives = log(logs.shape[2])
    ahead: Floats = np.logaddexp.reduce(from_start, axis=2) - alternatives
    return (ahead >= start_limit - TINY) | (detector - alternatives >= any_limit - TINY)


def breach(enough: Booleans, beyond: Booleans, duration: int) -> Floats:
    """Return the minute of the breach, infinite without one: evidence, and an estimate beyond the budget."""
    _, length = cut(duration)
    both = enough[:, duration - 1 :] & beyond
    first = np.where(both.any(axis=1), both.argmax(axis=1) + float(duration), NEVER)
    # A block that ends between two looks is closed at the later one.
    return np.ceil(first * length - TINY)


def measure(task: tuple[int, float, int]) -> dict[tuple[str, str], Floats]:
    """Simulate a part of the rollouts at one traffic and split, under each scenario and rule.

    Scenarios see the same requests, and the release's cost more: a cost times a constant is log-normal, too.
    """
    per_minute, share, part = task
    random = np.random.default_rng([SEED, per_minute, round(100 * share), part])
    phase = random.uniform(0, 2 * np.pi, (PART, 1))
    level = MEAN * (1 + DRIFT * np.sin(2 * np.pi * np.arange(DAY) / DAY + phase))
    baseline = draw(2 * per_minute * (1 - share), PART, random).times(level)
    release = draw(2 * per_minute * share, PART, random).times(level)
    return {
        (scenario, name): rule(baseline, release.times(1 + harm))
        for scenario, (harm, given) in SCENARIOS.items()
        if given == share
        for name, rule in RULES.items()
    }


def table(found: dict[tuple[str, str, int], Floats]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| | test | " + " | ".join(f"{rate}/min" for rate in RATES) + " |"
    yield "| --- | --- |" + " ---: |" * len(RATES)
    for scenario, name in product(SCENARIOS, RULES):
        cells = [cell(found[scenario, name, rate], SCENARIOS[scenario][0] > BUDGET) for rate in RATES]
        yield f"| {scenario} | {name} | " + " | ".join(cells) + " |"


def cell(minutes: Floats, harmful: bool) -> str:
    """Return the share that was rolled back, with its standard error and, under harm, the median minute."""
    share, rollouts = float(np.isfinite(minutes).mean()), minutes.size
    # For none or all of them, as if it had been one more or one less.
    near = min(max(share, 1 / (rollouts + 1)), rollouts / (rollouts + 1))
    text = f"{100 * share:.1f} ± {100 * sqrt(near * (1 - near) / rollouts):.1f} %"
    if not harmful:
        return text
    # Not `np.median`, whose mean of the middle two is NaN for infinite ones.
    middle = float(np.sort(minutes)[rollouts // 2])
    return f"{text}; {middle:.0f} min" if isfinite(middle) else f"{text}; never"


def main() -> int:
    """Simulate, and print the table."""
    console = Console()
    begun = perf_counter()
    shares = sorted({share for _, share in SCENARIOS.values()})
    tasks = list(product(sorted(RATES, reverse=True), shares, range(ROLLOUTS // PART)))
    parts: dict[tuple[str, str, int], list[Floats]] = {}
    with ProcessPoolExecutor(2) as pool, console.status("simulating"):
        for (rate, _, _), measured in zip(tasks, pool.map(measure, tasks), strict=True):
            for (scenario, name), minutes in measured.items():
                parts.setdefault((scenario, name, rate), []).append(minutes)
    found = {key: np.concatenate(minutes) for key, minutes in parts.items()}
    print("\n".join(table(found)))
    skew = (e ** (SIGMA**2) + 2) * sqrt(e ** (SIGMA**2) - 1)
    print(f"\n{ROLLOUTS} rollouts a cell, skewness of a request {skew:.1f}, {perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
