"""What is simulated: every scenario at every traffic, by every rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from bench.quality.latency import exceedance
from bench.quality.peers import RULES
from bench.quality.sequential import Rule, measured_design_effect, sequential
from bench.quality.traffic import Floats, Scenario, Traffic, simulate

RATES = (5, 30, 200)
SEED = 20261001
NOON = 12 * 60
OURS = "sequential"

NO_HARM = Scenario("no harm")
BLIP = Scenario("one −30 pp blip of 5–10 min", 0.30, lasting=(5, 10))
HALF = Scenario("true −1 pp (half the budget)", 0.01)
FOUR, TEN = Scenario("−4 pp", 0.04), Scenario("−10 pp", 0.10)
LATE_FOUR, LATE_TEN = (
    Scenario("−4 pp from 12 h", 0.04, onset=NOON),
    Scenario("−10 pp from 12 h", 0.10, onset=NOON),
)
COMMON = (NO_HARM, BLIP, HALF, FOUR, TEN, LATE_FOUR, LATE_TEN)
UNEVEN = (
    Scenario("no harm, ramp 5→50 % with a daily cycle", share=None),
    Scenario("−4 pp, ramp 5→50 % with a daily cycle", 0.04, share=None),
    Scenario("no harm, split 5/95", share=0.05),
    Scenario("−4 pp, split 5/95", 0.04, share=0.05),
    Scenario("−10 pp, split 5/95", 0.10, share=0.05),
)
CLUSTERED = (
    Scenario("no harm, correlated arms", clustering=3.0),
    Scenario("−4 pp, correlated arms", 0.04, clustering=3.0),
    Scenario("−10 pp, correlated arms", 0.10, clustering=3.0),
)
SEVERE = (NO_HARM, HALF, FOUR, TEN, Scenario("−30 pp", 0.30))
LATENCY = (
    NO_HARM,
    Scenario("one blip of 5–10 min at twice the latency", 1.0, lasting=(5, 10)),
    Scenario("true +7.5 % (half the budget)", 0.075),
    Scenario("+30 %", 0.30),
    Scenario("+75 %", 0.75),
)

#: What was tried around the method.
VARIANTS = {
    "as it is: 0.5, 1, 2, 4 and 8 budgets beyond the margin; A or B alone": Rule(),
    "A and B joined": Rule(joined=True),
    "joined; 1, 2, 4, 8": Rule(joined=True, multiples=(1.0, 2.0, 4.0, 8.0)),
    "joined; 1, 2, 4": Rule(joined=True, multiples=(1.0, 2.0, 4.0)),
    "joined; steps of √2 from 0.5 to 8": Rule(
        joined=True, multiples=tuple(0.5 * 2 ** (i / 2) for i in range(9))
    ),
    "joined; only 1.5": Rule(joined=True, multiples=(1.5,)),
    "blocks of 2 min": Rule(block=2),
    "blocks of 10 min": Rule(block=10),
    "caps 1.3 times as high": Rule(cap=1.3),
    "caps twice as high": Rule(cap=2.0),
}


@dataclass(frozen=True)
class Found:
    """How often and when a rule rolled back.

    :param share: of the rollouts, after the onset.
    :param early: of the rollouts, before it.
    :param median: minutes from the onset over all rollouts that were not early; infinite below one half.
    :param in_two_hours: share of the rollouts within two hours of the onset.
    """

    rollouts: int
    share: float
    early: float
    median: float
    in_two_hours: float

    @property
    def error(self) -> float:
        """The standard error of ``share``; for none or all of them, one more than was seen."""
        seen = min(max(self.share, 1 / (self.rollouts + 1)), 1 - 1 / (self.rollouts + 1))
        return sqrt(seen * (1 - seen) / self.rollouts)


@dataclass(frozen=True)
class Cell:
    """One scenario at one traffic, in one table."""

    table: str
    scenario: Scenario
    rate: int


def cells() -> list[Cell]:
    """Return everything that is simulated, the slowest first."""
    tables = {
        "common": COMMON,
        "clustered": CLUSTERED,
        "uneven": UNEVEN,
        "severe": SEVERE,
        "latency": LATENCY,
    }
    return [
        Cell(table, scenario, rate) for table, group in tables.items() for scenario in group for rate in RATES
    ]


def measure(cell: Cell, rollouts: int) -> dict[str, Found]:
    """Simulate one cell; the same cell always gives the same figures."""
    everything = {(one.table, one.scenario.name, one.rate): place for place, one in enumerate(cells())}
    random = np.random.default_rng([SEED, everything[cell.table, cell.scenario.name, cell.rate]])
    if cell.table == "latency":
        minutes = {OURS: exceedance(cell.scenario, cell.rate, Rule(), rollouts, random)}
    else:
        traffic = simulate(cell.scenario, cell.rate, rollouts, random)
        minutes = _minutes(cell, traffic, random)
    return {name: _found(breach, cell.scenario.onset) for name, breach in minutes.items()}


def _minutes(cell: Cell, traffic: Traffic, random: np.random.Generator) -> dict[str, Floats]:
    rule = Rule()
    rules: dict[str, Callable[[], Floats]] = {OURS: lambda: sequential(traffic, rule)}
    if cell.table == "severe":
        main = replace(rule, alpha=rule.alpha / 2)
        fast = Rule(budget=0.20, minutes=3, block=1, alpha=rule.alpha / 2)
        rules["with a fast tier"] = lambda: np.minimum(sequential(traffic, main), sequential(traffic, fast))
        return {name: run() for name, run in rules.items()}
    if cell.table == "clustered":
        quiet = simulate(CLUSTERED[0], cell.rate, traffic.release.shape[0], random)
        estimated = measured_design_effect(quiet)
        rules["sequential, design_effect estimated on the day before"] = lambda: sequential(
            traffic, rule, design_effect=estimated
        )
        rules["sequential, the true design_effect (3)"] = lambda: sequential(
            traffic, rule, design_effect=cell.scenario.clustering
        )
    rules |= {name: lambda peer=peer: peer(traffic, rule) for name, peer in RULES.items()}  # type: ignore[misc]
    if cell.table == "common":
        for name, variant in VARIANTS.items():
            rules[f"tried: {name}"] = lambda variant=variant: sequential(traffic, variant)  # type: ignore[misc]
    return {name: run() for name, run in rules.items()}


def _found(breach: Floats, onset: int) -> Found:
    early = (breach <= onset) & (onset > 0)
    after = breach[~early] - onset
    return Found(
        rollouts=breach.size,
        share=float(np.isfinite(after).sum() / breach.size),
        early=float(early.mean()),
        median=float(np.median(after)) if after.size else np.inf,
        in_two_hours=float((after <= 120).sum() / breach.size),
    )
