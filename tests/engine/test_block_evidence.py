"""The evidence of one block: its expectation under no harm, counted out over every outcome."""

from __future__ import annotations

import warnings
from itertools import product
from math import comb, exp, isfinite

import pytest

from rollback_budget.engine.null_boundary import (
    MAX_RATE,
    MIN_RATE,
    MULTIPLES,
    Counts,
    NullBoundary,
    log_evidence,
    null_boundary_of,
    project_on_boundary,
    threshold_as_rate,
)
from rollback_budget.model.budget import Budget, Comparison, Worse
from tests.engine.builders import budget

pytestmark = pytest.mark.pure

ABSOLUTE = budget("task_success", Comparison.DELTA_PP, -5.0, worse=Worse.LOWER)
OF_FAILURES = budget("human_handoff", Comparison.DELTA_PCT, 20.0)
OF_SUCCESSES = budget("task_success", Comparison.DELTA_PCT, -10.0, worse=Worse.LOWER)
RULES = [ABSOLUTE, OF_FAILURES, OF_SUCCESSES]
SPLITS = [(1, 1), (4, 4), (2, 5), (1, 19), (19, 1)]
RATES = (0.0, 1e-6, 0.03, 0.2, 0.5, 0.8, 0.97, 1.0)


def expectation(
    boundary: NullBoundary, step: float, learnt: float, arms: tuple[int, int], p_c: float, p_t: float
) -> list[float]:
    """Add up evidence times probability over every pair of counts."""
    n_c, n_t = arms
    total = [0.0] * len(MULTIPLES)
    for k_c, k_t in product(range(n_c + 1), range(n_t + 1)):
        chance = comb(n_c, k_c) * p_c**k_c * (1 - p_c) ** (n_c - k_c)
        chance *= comb(n_t, k_t) * p_t**k_t * (1 - p_t) ** (n_t - k_t)
        for place, evidence in enumerate(log_evidence(Counts(k_c, n_c, k_t, n_t), learnt, boundary, step)):
            total[place] += chance * exp(evidence)
    return total


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
@pytest.mark.parametrize("arms", SPLITS, ids=str)
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_expected_evidence_of_a_block_is_at_most_1_wherever_there_is_no_harm(
    rule: Budget, arms: tuple[int, int], margin: float
) -> None:
    boundary = null_boundary_of(rule, margin)
    for learnt in (0.02, 0.1, 0.5, 0.9):
        step = threshold_as_rate(rule, learnt)
        for p_c in RATES:
            edge = min(boundary.at(p_c), 1.0)
            for p_t in (edge, 0.9 * edge, 0.5 * edge, 0.0):
                assert max(expectation(boundary, step, learnt, arms, p_c, p_t)) <= 1 + 1e-9


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_the_evidence_of_real_harm_is_expected_to_grow(rule: Budget) -> None:
    boundary, step = null_boundary_of(rule, 0.5), threshold_as_rate(rule, 0.2)
    assert max(expectation(boundary, step, 0.2, (8, 8), 0.2, boundary.at(0.2) + 2 * step)) > 1.01


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
@pytest.mark.parametrize("arms", [(1, 1), (30, 570), (10**9, 7)], ids=str)
def test_the_projection_is_the_nearest_harmless_point(rule: Budget, arms: tuple[int, int]) -> None:
    boundary = null_boundary_of(rule, 0.5)
    n_c, n_t = arms
    for learnt in (MIN_RATE, 1e-4, 0.1, 0.5, 0.9):
        for multiple in MULTIPLES:
            release = boundary.at(learnt) + threshold_as_rate(rule, learnt) * multiple
            if release >= MAX_RATE:
                continue
            q = project_on_boundary(learnt, release, boundary, n_c, n_t)
            # The derivative of the distance changes sign within a hair of q.
            for point, sign in ((q * (1 - 1e-6), -1), (q + 1e-6 * (1 - q), 1)):
                if learnt < point and boundary.at(point) < release:
                    to_c = n_c * (point - learnt) / (point * (1 - point))
                    at = boundary.at(point)
                    to_t = n_t * boundary.slope * (at - release) / (at * (1 - at))
                    assert sign * (to_c + to_t) > 0


@pytest.mark.parametrize(
    "rule", [*RULES, budget("x", Comparison.DELTA_PCT, 900.0)], ids=lambda rule: rule.key
)
def test_extreme_blocks_give_finite_evidence_without_a_warning(rule: Budget) -> None:
    boundary = null_boundary_of(rule, 0.5)
    sizes = (0, 1, 10**9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n_c, n_t, learnt in product(sizes, sizes, (MIN_RATE, 0.5, 0.999, MAX_RATE)):
            for k_c, k_t in product({0, n_c // 2, n_c}, {0, n_t // 2, n_t}):
                logs = log_evidence(
                    Counts(k_c, n_c, k_t, n_t), learnt, boundary, threshold_as_rate(rule, learnt)
                )
                assert all(isfinite(evidence) for evidence in logs)
                assert logs == [0.0] * len(MULTIPLES) or (n_c and n_t)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_more_bad_events_of_the_release_are_never_less_evidence(rule: Budget) -> None:
    boundary, step = null_boundary_of(rule, 0.5), threshold_as_rate(rule, 0.3)
    logs = [log_evidence(Counts(6, 20, k_t, 20), 0.3, boundary, step) for k_t in range(21)]
    for column in zip(*logs, strict=True):
        assert list(column) == sorted(column)


def test_a_threshold_beyond_what_is_possible_is_no_evidence_of_anything() -> None:
    boundary = null_boundary_of(budget("x", Comparison.DELTA_PP, 190.0), 0.5)
    assert log_evidence(Counts(0, 50, 50, 50), 0.2, boundary, 1.9) == [0.0] * len(MULTIPLES)
