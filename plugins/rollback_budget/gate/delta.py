"""One measure of a candidate compared with its baseline: pure arithmetic on summaries."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Literal, NamedTuple

from rollback_budget.engine.delta import delta_of
from rollback_budget.engine.evaluation import Status
from rollback_budget.engine.threshold_tolerance import Threshold
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget, Comparison, Severity, Worse
from rollback_budget.text import plural


class Summary(NamedTuple):
    """One column of one version's rows.

    :param rows: how many rows there are.
    :param known: how many of them hold a number.
    :param value: the mean or the quantile of those; None when there are none.
    """

    rows: int
    known: int
    value: float | None


NO_ROWS = Summary(0, 0, None)


class DeltaRule(Frozen):
    """How much worse than its baseline a candidate may be; the fields are those of the expectation in git.

    :param measure: its name, for people.
    :param quantile: nearest rank, between 0 and 1; None compares means (of ``passed``: rates).
    :param min_rows: rows of each version without which it fails.
    """

    measure: str
    column: str
    quantile: float | None = None
    comparison: Literal["delta_pct", "delta_pp", "delta", "above", "below"]
    threshold: float
    worse: Literal["higher", "lower"]
    slice: str | None = None
    min_rows: int = 30


class DeltaOutcome(NamedTuple):
    """Whether a candidate is within its budget; ``delta`` is None where it is not known."""

    within: bool
    delta: float | None
    sentence: str


def delta_outcome(
    rule: DeltaRule, versions: tuple[str, str], release: Summary, baseline: Summary
) -> DeltaOutcome:
    """Return whether the candidate is within its budget; an unknown delta is not within it.

    :param versions: the names of the candidate and the baseline.
    """
    comparison = Comparison(rule.comparison)
    name = rule.measure if rule.slice is None else f"{rule.measure} in {rule.slice}"
    arms = list(zip(versions, (release, baseline), strict=True))[: 2 if comparison.needs_baseline else 1]
    for version, arm in arms:
        if arm.rows < rule.min_rows:
            return _unknown(
                f"{name}: {version} has {plural(arm.rows, 'row')}, at least {rule.min_rows} needed"
            )
        if arm.known < arm.rows:
            missing = arm.rows - arm.known
            rows = plural(arm.rows, "row")
            return _unknown(f"{name}: {missing} of {rows} of {version} without a number (crashed or NaN)")
    budget = Budget(
        id=name,
        area="launch_gate",
        metric=rule.measure,
        comparison=comparison,
        threshold=rule.threshold,
        worse=Worse(rule.worse),
        max_duration=timedelta(0),
        severity=Severity.MAJOR,
    )
    theirs = baseline.value if comparison.needs_baseline and baseline.value is not None else 0.0
    ours = release.value
    assert ours is not None
    delta = delta_of(budget, ours, theirs)
    status = Threshold(budget).status(budget, delta, ours, theirs)
    if status is Status.UNKNOWN:
        return _unknown(f"{name}: {ours:.4g} against {theirs:.4g} of {versions[1]} gives no delta")
    against = f" against {theirs:.4g} of {versions[1]}" if comparison.needs_baseline else ""
    unit = {Comparison.DELTA_PCT: " %", Comparison.DELTA_PP: " points"}.get(comparison, "")
    sentence = (
        f"{name} is {ours:.4g}{against}: {delta:+.4g}{unit}, budget {rule.threshold:+g}{unit}"
        f" (n = {release.rows}{f' and {baseline.rows}' if comparison.needs_baseline else ''})"
    )
    return DeltaOutcome(status is Status.GOOD, delta, sentence)


def rank_of(quantile: float, count: int) -> int:
    """Return which of ``count`` sorted values (from 1) the nearest-rank quantile is."""
    # 0.07 * 100 is a little more than 7.
    return min(max(ceil(quantile * count - 1e-9), 1), count)


def _unknown(sentence: str) -> DeltaOutcome:
    return DeltaOutcome(False, None, f"{sentence}; the evaluation has to be run again")
