"""What a loaded budget lacks for shipping, and what about it is probably not meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Protocol, runtime_checkable

from rollback_budget.model.budget import Budget, Comparison, Tier, Worse
from rollback_budget.model.decision import Action
from rollback_budget.model.direction import better_of
from rollback_budget.model.duration import write_duration
from rollback_budget.model.method_plan import method_problem
from rollback_budget.model.metric import BucketBy, MetricKind
from rollback_budget.model.pace import most_looks, pace_of
from rollback_budget.model.source_settings import SourceSettings
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.registry import Group, load_class

#: A budget with a duration burns from one bad look to the next.
_FEWEST_TO_BREACH = 2

_HERE = "to this budget or to defaults.yaml"


def preflight_problems(spec: RolloutSpec) -> list[str]:
    """Return why this rollout must not ship; each names the missing key and what to add."""
    problems = []
    if spec.owner is None:
        problems.append(f"`owner` is missing: add `owner: <team>` {_HERE}")
    if not spec.incident_commanders:
        problems.append(
            f"`incident_commander` is missing: add `incident_commander: <Airflow user id>` {_HERE}"
        )
    if spec.source is None:
        problems.append(f"`source` is missing: add `source: {{type: sql, conn_id: ...}}` {_HERE}")
    if spec.target is None:
        problems.append(f"`target` is missing: add `target: {{conn_id: ..., read: ..., write: ...}}` {_HERE}")
    if spec.source is not None:
        problems += _checks_of(spec.source).problems(spec)
    problems += [problem for budget in spec.budgets if (problem := method_problem(spec, budget))]
    return problems


@runtime_checkable
class _SourceChecks(Protocol):
    """What is needed here of a registered source; its base class stands in a layer above this one."""

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterable[str]: ...

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterable[str]: ...


def _checks_of(source: SourceSettings) -> type[_SourceChecks]:
    return load_class(Group.SOURCES, source.type, _SourceChecks)


def warnings(spec: RolloutSpec) -> list[str]:
    """Return what is allowed and probably not meant."""
    found = []
    if not any(spec.metric(budget.metric).user_impact for budget in spec.budgets):
        found.append("no budget is on a metric that users feel: every metric has `user_impact: false`")
    undescribed = {b.metric: None for b in spec.budgets if b.metric not in spec.metrics}
    if undescribed:
        names = ", ".join(undescribed)
        found.append(
            f"no description under `metrics` for {names}: without kind and unit they are plain gauges"
        )
    found += [said for budget in spec.budgets if (said := _scale_warning(spec, budget))]
    found += [said for budget in spec.budgets if (said := _direction_warning(spec, budget))]
    if spec.decision.tier_a_breach.action is Action.RECORD_ONLY and any(
        budget.tier is Tier.A for budget in spec.budgets
    ):
        found.append("`tier_a_breach: record_only`: a tier A breach rolls nothing back")
    found += [said for budget in spec.budgets for said in _pace_warnings(spec, budget)]
    found += _skewed_means(spec)
    found += _traffic_warnings(spec)
    if spec.source is not None:
        found += _checks_of(spec.source).warnings(spec)
    return found


def _pace_warnings(spec: RolloutSpec, budget: Budget) -> Iterator[str]:
    """Say where a metric comes so rarely, or so late, that its budget is not what it looks like."""
    metric, pace = spec.metric(budget.metric), pace_of(spec, budget.metric)
    if not metric.has_own_pace:
        return
    every, window = write_duration(pace.every), write_duration(spec.window)
    looks = most_looks(spec, pace)
    if not looks:
        left_out, shorter = "", "`every`"
        if pace.leaves_out:
            left_out = f", whose first {write_duration(pace.leaves_out)} `bucket_by: arrival` leaves out"
            shorter = "`every` or `lag`"
        yield (
            f"{budget.id}: no look of {every} lies within the window of {window}{left_out}, so that it is"
            f" never judged: watch longer, or give the metric a shorter {shorter}"
        )
        return
    if pace.every < spec.watch.step:
        step, blind = write_duration(spec.watch.step), write_duration(pace.blind_after)
        yield (
            f"{budget.id}: `every` ({every}) is shorter than `watch.step` ({step}), so that the metric is"
            f" looked at every {every}, more often than the others: where values come less often, looks are"
            f" unknown, and {blind} without a value are blind"
        )
    if budget.max_duration and looks <= _FEWEST_TO_BREACH:
        few, breach = (
            ("at most one look of {} lies", "cannot breach")
            if looks < _FEWEST_TO_BREACH
            else ("only one look of {} lies for certain", "may not be able to breach")
        )
        yield (
            f"{budget.id}: {few.format(every)} within the window of {window}, and a budget with a duration"
            f" breaches at a second one, so that it {breach}: watch longer, give the metric a shorter"
            " `every`, or the budget `max_duration: 0m`"
        )
    if pace.lag >= spec.window:
        yield (
            f"{budget.id}: with a `lag` of {write_duration(pace.lag)} no look is decided before the window of"
            f" {window} is over, so that its harm is found no sooner: watch longer, or give the metric a"
            " shorter `lag`"
        )
    if pace.blind_after >= spec.window:
        yield (
            f"{budget.id}: looks of {every} are blind only after {write_duration(pace.blind_after)}, no"
            " sooner than the window is over: give the metric a shorter `blind_after`"
        )
    if timedelta(0) < budget.max_duration < pace.every:
        yield (
            f"{budget.id}: {write_duration(budget.max_duration)} is shorter than a look of {every}, so that"
            " the second bad look in a row breaches"
        )
    if metric.bucket_by is BucketBy.ARRIVAL and metric.lag is None:
        yield (
            f"{budget.id}: {budget.metric} counts when it arrives, and at first that is about requests from"
            " before the release shipped: write its `lag`, and so much is left out"
        )


def _skewed_means(spec: RolloutSpec) -> list[str]:
    """Say where ``sign`` takes a small baseline for a cheap one: the mean of few values is mostly low."""
    if spec.target is None or spec.target.ship_share <= 0.5:
        return []
    return [
        f"{budget.id}: a mean of skewed values needs as much traffic on {spec.baseline} "
        f"as on {spec.release}; give `target.ship_share` at most 0.5"
        for budget in spec.budgets
        if spec.metric(budget.metric).kind is MetricKind.MEAN and budget.comparison.needs_baseline
    ]


def _traffic_warnings(spec: RolloutSpec) -> list[str]:
    """Say where the traffic is divided in a way that leaves too little to decide on."""
    if spec.target is None:
        return []
    found = []
    compared = [budget.id for budget in spec.budgets if budget.comparison.needs_baseline]
    if spec.target.ship_share >= 1 and compared and spec.analysis.baseline == "concurrent":
        found.append(
            f"`target.ship_share` leaves {spec.baseline} no traffic to compare with, so that"
            f" {', '.join(compared)} stay unknown; leave it some, or use `_above` and `_below`"
        )
    longest = max((budget.max_duration for budget in spec.budgets), default=timedelta(0))
    short = [stage for stage in spec.target.stages if stage.hold < longest]
    if short:
        found.append(
            f"a stage holds for {write_duration(short[0].hold)} and a budget takes {write_duration(longest)}:"
            " what begins in it is found only after the share was raised"
        )
    return found


def _direction_warning(spec: RolloutSpec, budget: Budget) -> str | None:
    """Say when a rule rolls back what is an improvement."""
    better = better_of(budget.metric, spec.metric(budget.metric))
    if better is None or better.value != budget.worse.value:
        return None
    moves, other = ("rises", "lower") if budget.worse is Worse.HIGHER else ("falls", "higher")
    remedy = "turn the sign of its threshold" if budget.comparison.needs_baseline else "use the other line"
    return (
        f"{budget.id}: {budget.metric} is better when it is {better}, and this rule rolls back when it"
        f" {moves}: {remedy}, or write `better: {other}` at the metric"
    )


def _scale_warning(spec: RolloutSpec, budget: Budget) -> str | None:
    """Say when a threshold is on a scale that its metric does not have."""
    kind = spec.metrics[budget.metric].kind if budget.metric in spec.metrics else None
    if budget.comparison is Comparison.DELTA_PP and kind not in (None, MetricKind.PROPORTION):
        return f"{budget.id}: percentage points need `kind: proportion`, {budget.metric} is a {kind}"
    never = budget.comparison is Comparison.DELTA_PCT and budget.threshold <= -100
    if never or (budget.comparison is Comparison.DELTA_PP and abs(budget.threshold) >= 100):
        return f"{budget.id}: no change can go beyond {budget.threshold:g}"
    return None
