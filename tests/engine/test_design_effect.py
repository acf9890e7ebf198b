"""The design effect, estimated on traffic whose clustering is known."""

from __future__ import annotations

from math import exp, sqrt
from random import Random
from statistics import mean, stdev

import pytest

from rollback_budget.engine.design_effect import LEAST_STEPS, design_effect, relative_error
from rollback_budget.engine.null_boundary import Counts
from rollback_budget.exceptions import SeriesError

pytestmark = pytest.mark.pure

DAY = 1440
RATE, REQUESTS = 0.1, 60


def traffic(
    spread: float,
    memory: float,
    seed: int,
    *,
    drift: float = 0.0,
    length: int = DAY,
    requests: int = REQUESTS,
) -> list[Counts]:
    """Two arms without harm; the rate of each wanders on its own by ``spread``, forgetting as AR(1)."""
    random = Random(seed)
    wandering = [0.0, 0.0]
    steps = []
    for step in range(length):
        counts = []
        common = drift * (step / length - 0.5)
        for arm in (0, 1):
            wandering[arm] = memory * wandering[arm] + sqrt(1 - memory**2) * random.gauss(0, spread)
            rate = min(max(RATE + common + wandering[arm], 0.0), 1.0)
            counts += [sum(random.random() < rate for _ in range(requests)), requests]
        steps.append(Counts(*counts))
    return steps


@pytest.mark.parametrize(
    ("spread", "memory"), [(0.0, 0.0), (0.03, 0.0), (0.02, exp(-1 / 5)), (0.03, exp(-1 / 5))]
)
def test_the_estimate_meets_the_known_clustering(spread: float, memory: float) -> None:
    binomial = RATE * (1 - RATE) / REQUESTS
    truth = 1 + spread**2 / binomial * (1 + memory) / (1 - memory)
    found = mean(design_effect(traffic(spread, memory, seed)) for seed in range(15))
    assert found == pytest.approx(truth, rel=0.25)


def test_a_week_tells_it_as_exactly_as_it_says() -> None:
    found = [design_effect(traffic(0.05, 0.0, seed, length=7 * DAY, requests=10)) for seed in range(12)]
    assert relative_error(7 * DAY) == pytest.approx(0.1, rel=0.1)
    assert stdev(found) / mean(found) == pytest.approx(relative_error(7 * DAY), rel=0.5)
    assert relative_error(DAY) == pytest.approx(0.26, rel=0.05)


def test_a_drift_that_both_arms_share_is_no_clustering() -> None:
    assert design_effect(traffic(0.0, 0.0, 1, drift=0.1)) < 1.4


def test_too_little_for_an_estimate_is_said() -> None:
    with pytest.raises(SeriesError, match=str(LEAST_STEPS)):
        design_effect([Counts(1, 10, 1, 10)] * 50 + [Counts(0, 0, 1, 10)] * 500)
    with pytest.raises(SeriesError, match="every event is the same"):
        design_effect([Counts(0, 10, 0, 10)] * 500)
