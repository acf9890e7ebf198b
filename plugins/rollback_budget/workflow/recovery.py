"""What the metrics say of the versions that serve: does a breach recover, is the baseline itself healthy?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite, nan
from typing import NamedTuple

from rollback_budget.engine.comparison import BAD, GOOD, UNKNOWN, Limit, delta_of
from rollback_budget.engine.frame import Arms, frame_of
from rollback_budget.engine.result import Breach, Status
from rollback_budget.engine.sample import Sample
from rollback_budget.spec.model import Budget, Comparison, RolloutSpec
from rollback_budget.targets.change import Recovery


class Level(NamedTuple):
    """One version's mean over some looks, weighted by events where every look has them; NaN is unknown."""

    value: float
    n: float


def level_of(values: Sequence[float], counts: Sequence[float]) -> Level:
    """Return the mean of the looks that are known."""
    known = [(value, n) for value, n in zip(values, counts, strict=True) if isfinite(value)]
    if not known:
        return Level(nan, nan)
    total = sum(n for _, n in known)
    if not isfinite(total):
        return Level(sum(value for value, _ in known) / len(known), nan)
    return Level(sum(value * n for value, n in known) / total if total > 0 else nan, total)


def baseline_levels(
    spec: RolloutSpec, samples: Iterable[Sample], start: datetime, end: datetime
) -> dict[str, float]:
    """Return the baseline's mean of every series that is known."""
    frame = frame_of(spec, samples, start=start, end=end)
    levels = {name: level_of(arms.baseline, arms.baseline_n).value for name, arms in frame.arms.items()}
    return {name: value for name, value in levels.items() if isfinite(value)}


def recovery_of(
    spec: RolloutSpec,
    breaches: Sequence[Breach],
    samples: Iterable[Sample],
    start: datetime,
    end: datetime,
) -> Recovery | None:
    """Return whether what was breached is good again for what serves after a rollback: the baseline.

    The release gets no traffic any more, so a delta between the versions says nothing. What users feel now is
    the baseline's value; it has recovered when it is within the budget of what the baseline's was while the
    release was worse (``_above`` and ``_below``: within the budget itself; ``_increase``: the release adds no
    event). Measured over ``(start, end]``.
    """
    budgets = {budget.id: budget for budget in spec.budgets}
    asked = [(budgets[breach.budget], breach) for breach in breaches if breach.budget in budgets]
    if not asked:
        return None
    frame = frame_of(spec, samples, start=start, end=end)
    each = [_recovery(budget, breach, frame.arms[budget.series], spec) for budget, breach in asked]
    said = "; ".join(one.said for one in each)
    if any(one.good is False for one in each):
        return Recovery(False, said)
    if all(one.good for one in each):
        return Recovery(True, said)
    return Recovery(None, said, knowable=any(one.good is None and one.knowable for one in each))


def baseline_troubles(
    spec: RolloutSpec, samples: Iterable[Sample], start: datetime, end: datetime, before: Mapping[str, float]
) -> list[str]:
    """Say where the baseline is itself beyond a budget: its ``_above`` or ``_below``, or what it was before.

    :param before: its values when the rollout began, by series; what is missing is not compared.
    """
    frame = frame_of(spec, samples, start=start, end=end)
    troubles = []
    for budget in spec.budgets:
        arms = frame.arms[budget.series]
        level = level_of(arms.baseline, arms.baseline_n)
        was = before.get(budget.series, nan)
        if budget.comparison is Comparison.INCREASE or _status(budget, level, was) is not BAD:
            continue
        since = f", {_say(spec, budget, was)} before the rollout" if isfinite(was) else ""
        troubles.append(
            f"{budget.metric} of {spec.baseline} is {_say(spec, budget, level.value)}{since}, beyond"
            f" {budget.key} {budget.threshold:+g}"
        )
    return list(dict.fromkeys(troubles))


def _recovery(budget: Budget, breach: Breach, arms: Arms, spec: RolloutSpec) -> Recovery:
    if budget.comparison is Comparison.INCREASE:
        return _no_more_events(budget, arms, spec)
    was = nan
    if budget.comparison.needs_baseline:
        if breach.over_burn.baseline_value is None:
            said = (
                f"whether {budget.metric} recovers cannot be known: the baseline's value at the breach is not"
            )
            return Recovery(None, said, knowable=False)
        was = breach.over_burn.baseline_value
    level = level_of(arms.baseline, arms.baseline_n)
    status = _status(budget, level, was)
    if status is UNKNOWN:
        return Recovery(None, f"whether {budget.metric} recovers is not known yet: too few samples")
    against = f", it was {_say(spec, budget, was)} at the breach" if isfinite(was) else ""
    verb = "recovers" if status is GOOD else "does not recover"
    now = f"{_say(spec, budget, level.value)} for {spec.baseline}, which serves"
    return Recovery(status is GOOD, f"{budget.metric} {verb}: {now}{against}")


def _no_more_events(budget: Budget, arms: Arms, spec: RolloutSpec) -> Recovery:
    if not any(map(isfinite, [*arms.baseline, *arms.release])):
        return Recovery(None, f"whether {budget.metric} recover is not known yet: no samples")
    events = sum(value for value in arms.release if isfinite(value))
    return Recovery(events <= 0, f"{events:g} {budget.metric} of {spec.release} since the change")


def _status(budget: Budget, level: Level, was: float) -> Status:
    """Return the status of a version's level, held against the budget or against what it was before."""
    if not isfinite(level.value) or level.n < budget.min_samples:
        return UNKNOWN
    delta = delta_of(budget, level.value, was)
    return Limit(budget).status(budget, delta, level.value, was)


def _say(spec: RolloutSpec, budget: Budget, value: float) -> str:
    return f"{value:.4g} {spec.metric(budget.metric).unit}".rstrip()
