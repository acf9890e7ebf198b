"""The rule in words, for a person who has to agree to it."""

from __future__ import annotations

from datetime import timedelta

from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Tier, Worse
from rollback_budget.model.decision import Action, OnTimeout
from rollback_budget.model.duration import say_duration
from rollback_budget.model.method_plan import Counted, alpha_of, method_problem, plan_of
from rollback_budget.model.metric import BucketBy
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind
from rollback_budget.text import joined


def say_budget(spec: RolloutSpec, budget: Budget) -> str:
    """Say one budget in one sentence: when it is used up, and what happens then."""
    name = budget.area if budget.slice is None else f"{budget.area} ({budget.slice})"
    return f"{name}: {_say_condition(spec, budget)}, {say_decision(spec, budget.tier)}"


def say_decision(spec: RolloutSpec, tier: Tier) -> str:
    """Say what a breach of ``tier`` leads to."""
    decision = spec.decision.of(tier)
    match decision.action:
        case Action.AUTO_ROLLBACK:
            return f"{spec.release} is rolled back at once, without asking"
        case Action.RECORD_ONLY:
            return "it is recorded and nothing else happens"
        case Action.INCIDENT_COMMANDER_DECISION:
            silence = "rolls back" if decision.on_timeout is OnTimeout.ROLLBACK else "goes on"
            within = say_duration(decision.within)
            return f"the incident commander decides within {within}; silence {silence}"


def say_method(spec: RolloutSpec, budget: Budget) -> str:
    """Say how the budget is decided, and what that is worth."""
    if budget.comparison is Comparison.INCREASE and not budget.max_duration:
        return f"{budget.id}: counted exactly; one event more than tolerated is beyond the threshold"
    problem = method_problem(spec, budget)
    if problem is not None:
        return problem
    plan = plan_of(spec, budget)
    if plan.method is Method.THRESHOLD:
        cumulative = budget.accounting is Accounting.CUMULATIVE
        counting = " (minutes add up over good looks)" if cumulative else ""
        return f"{budget.id}: decided by the values alone ({plan.reason}): no error-rate guarantee{counting}"
    worth = f"in at most {100 * alpha_of(spec):.2g} % of rollouts it is used up without harm"
    lacking = "histogram" if plan.counted is Counted.EXCEEDANCES else "counts"
    is_sure = plan.without_counts is plan.method
    other = "" if is_sure else f"; {plan.without_counts} where samples carry no {lacking}"
    return f"{budget.id}: {plan.method} ({plan.reason}{other}): {worth}"


def say_window(spec: RolloutSpec) -> str:
    """Say for how long the release is watched, and from when."""
    grace = f", leaving out the first {say_duration(spec.watch.grace)}" if spec.watch.grace else ""
    return f"{spec.release} is watched for {say_duration(spec.window)} after shipping{grace}"


def say_looks(spec: RolloutSpec) -> str:
    """Say how it looks."""
    watch = spec.watch
    rhythm = f"one look per {say_duration(watch.step)}, fetched every {say_duration(watch.poll)}"
    left_out = f"the newest {say_duration(watch.settle)} are left out"
    own = "".join(f"; {said}" for name in _own_paces(spec) if (said := _say_pace(spec, name)))
    return f"{rhythm}; {left_out}; a hole longer than {say_duration(watch.max_gap)} uses up nothing{own}"


def _own_paces(spec: RolloutSpec) -> list[str]:
    """Return the metrics that are looked at in a pace of their own."""
    names = dict.fromkeys(budget.metric for budget in spec.budgets)
    return [name for name in names if spec.metric(name).has_own_pace]


def _say_pace(spec: RolloutSpec, name: str) -> str:
    pace = pace_of(spec, name)
    counts = f"decided {say_duration(pace.lag)} after it"
    if spec.metric(name).bucket_by is BucketBy.ARRIVAL:
        counts = f"by arrival, leaving out the first {say_duration(pace.leaves_out)}"
    hole = ""
    if pace.max_gap != spec.watch.max_gap:
        hole = f", a hole longer than {say_duration(pace.max_gap)} uses up nothing"
    return f"{name}: one look per {say_duration(pace.every)}, {counts}{hole}"


def say_blind(spec: RolloutSpec) -> str:
    """Say what a watch that sees nothing leads to."""
    leads_to = {
        OnBlind.REVIEW: "the incident commander is asked",
        OnBlind.ROLLBACK: f"{spec.release} is rolled back",
        OnBlind.CONTINUE: "the watch goes on",
    }[spec.watch.on_blind]
    longer: dict[timedelta, list[str]] = {}
    for name in _own_paces(spec):
        longer.setdefault(pace_of(spec, name).blind_after, []).append(name)
    longer.pop(spec.watch.blind_after, None)
    said = ", ".join(f"{say_duration(after)} for {joined(names)}" for after, names in longer.items())
    own = f" ({said})" if said else ""
    return f"if an area sees nothing for {say_duration(spec.watch.blind_after)}{own}, {leads_to}"


def say_deciders(spec: RolloutSpec) -> str:
    """Say who decides, and how often they may say "go on"."""
    names = ", ".join(c.name if c.name == c.id else f"{c.name} ({c.id})" for c in spec.incident_commanders)
    if not names:
        return "no incident commander is named, so this budget does not ship"
    overrides = spec.max_overrides
    if overrides == 0:
        return f"{names}; no rollout may go on after a breach"
    times = "once" if overrides == 1 else f"{overrides} times"
    return f'{names}, who may say "go on" {times}; after that a breach rolls back without asking'


def _say_condition(spec: RolloutSpec, budget: Budget) -> str:
    if not budget.max_duration:
        return f"as soon as {_say_crossing(spec, budget)}"
    total = " in total" if budget.accounting is Accounting.CUMULATIVE else ""
    return f"if {_say_crossing(spec, budget)} for {say_duration(budget.max_duration)}{total}"


def _say_crossing(spec: RolloutSpec, budget: Budget) -> str:
    metric, amount = budget.metric, f"{abs(budget.threshold):g}"
    unit = spec.metric(metric).unit
    measured = f"{amount} {unit}".rstrip()
    match budget.comparison:
        case Comparison.INCREASE:
            more = f"more than {amount}" if budget.threshold else "any"
            return (
                f"{spec.release} has {more} {metric} beyond those of {spec.baseline} (scaled to its traffic)"
            )
        case Comparison.ABOVE | Comparison.BELOW:
            value = f"{budget.threshold:g} {unit}".rstrip()
            return f"{metric} of {spec.release} is {budget.comparison} {value}"
        case Comparison.DELTA_PCT:
            measured = f"{amount} %"
        case Comparison.DELTA_PP:
            measured = f"{amount} percentage points"
        case Comparison.DELTA:
            pass
    verb, side = ("falls", "below") if budget.worse is Worse.LOWER else ("rises", "above")
    margin = f"more than {measured} {side}" if budget.threshold else side
    return f"{metric} {verb} {margin} {spec.baseline}"
