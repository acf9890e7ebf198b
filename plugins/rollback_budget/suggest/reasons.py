"""The reasons of a suggestion, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from rollback_budget.engine.messages import say_value
from rollback_budget.model.budget import Budget, Comparison, Method
from rollback_budget.model.duration import say_duration
from rollback_budget.model.method_plan import plan_of
from rollback_budget.model.metric import Metric
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.candidates import is_slow_metric
from rollback_budget.suggest.search import HARM, Found, Tried
from rollback_budget.suggest.suggestion import BudgetSuggestion, Suggestion


def reasons_of(suggestion: Suggestion) -> list[str]:
    """Return why the rule as a whole is fine, or what should change."""
    promised = f"the promised {100 * suggestion.alpha:g} %"
    said = [
        f"as it is, the rule stops {suggestion.false_trips} of windows of {say_duration(suggestion.window)}"
        f" without change, {_kept(suggestion.keeps_rate)} {promised}"
    ]
    if suggestion.left_design_effect is not None:
        said.append(
            f"requests come in clusters (design effect {suggestion.left_design_effect:.2f}), and it is not"
            " proposed: with it, the rule would trip no more rarely and find less"
        )
    if suggestion.is_fine:
        finds = all(one.current.found is None or one.current.found.is_found for one in suggestion.budgets)
        said.append(
            "the rule is fine as it is"
            if finds
            else "the rule stays as it is: none near it keeps the promised rate and finds more harm in time"
        )
        return said
    now = suggestion.design_effect
    if suggestion.proposed_design_effect != now:
        was = "auto" if now is None else f"{now:g}"
        said.append(
            f"`analysis.design_effect: {suggestion.proposed_design_effect:g}` instead of {was}: requests come"
            " in clusters, and each is worth less than an independent one (the estimate and one standard"
            " error)"
        )
    if suggestion.rounds:
        said.append(
            f"the design effect was raised {suggestion.rounds} times by a quarter, because the first proposal"
            f" did not keep {promised} on windows that the search had not used"
        )
    said.append(
        f"as proposed, it stops {suggestion.proposed_false_trips} of other windows without change,"
        f" {_kept(suggestion.proposed_keeps_rate)} {promised}"
    )
    return said


def budget_reasons(spec: RolloutSpec, budget: Budget, found: BudgetSuggestion) -> list[str]:
    """Return what was seen of one budget, and why it is to stay or to change."""
    return [*_noise(spec, budget, found), *_change(spec, budget, found)]


def say_line(threshold: float, duration: timedelta, budget: Budget) -> str:
    """Return a threshold and a duration as people say them: ``-2 pp for 20 min``."""
    unit = {Comparison.DELTA_PCT: " %", Comparison.DELTA_PP: " pp"}.get(budget.comparison, "")
    lasting = f" for {say_duration(duration)}" if duration else " at once"
    return f"{threshold:+g}{unit}{lasting}"


def say_found(found: Found | None) -> str:
    """Return how harm of twice the threshold is found."""
    if found is None:
        return ""
    if found.usually is not None:
        return f"in {say_duration(found.usually)}"
    return f"in time in {100 * found.in_time.rate:.0f} %"


def _noise(spec: RolloutSpec, budget: Budget, found: BudgetSuggestion) -> Iterator[str]:
    noise, metric = found.noise, spec.metric(budget.metric)
    if not noise.known:
        yield "no look has it for both versions, so that nothing can be said of it"
        return
    every = pace_of(spec, budget.metric).every
    a_look = "a look" if every == spec.watch.step else f"a look of {say_duration(every)}"
    traffic = ""
    if noise.release_events is not None and noise.baseline_events is not None:
        traffic = (
            f"usually {noise.release_events:g} events of the release and {noise.baseline_events:g} of the"
            f" baseline {a_look}; "
        )
    if noise.spread_of_look is not None:
        spread = f"{traffic}without change the delta spreads by {_size(budget, metric, noise.spread_of_look)}"
        over = ""
        if noise.spread_of_duration is not None and budget.max_duration > every:
            size = _size(budget, metric, noise.spread_of_duration)
            over = f", and by {size} over {say_duration(budget.max_duration)}"
        yield f"{spread} from look to look{over} (standard deviation)"
    if noise.daily_cycle is not None:
        yield f"over the day it moves by {say_value(noise.daily_cycle, metric)}, in both versions"
    clustering = found.clustering
    if clustering is not None:
        sure = f"{clustering.design_effect:.2f} ± {clustering.standard_error:.2f}"
        told = "requests are clustered" if clustering.is_sure else "independent requests would give 1"
        yield f"design effect {sure}: {told}"
    yield f"decided by {found.forecast.method} ({found.forecast.method_reason})"


def _change(spec: RolloutSpec, budget: Budget, found: BudgetSuggestion) -> Iterator[str]:
    now, then = found.current, found.proposed
    yield f"as it is, it trips in {now.false_trips} of windows without change{_finding(now)}"
    finds = then.found is None or then.found.is_found
    if found.is_changed and finds:
        line = say_line(then.threshold, then.max_duration, budget)
        yield (
            f"{line} is the nearest line that keeps its share and finds harm of {HARM:g} times its threshold"
            f" in time: it trips in {then.false_trips}{_finding(then)}"
        )
        if then.found is not None:
            yield (
                f"if that may take longer than {say_duration(then.found.within)}, say so with `--within`: a"
                " line nearer to yours may do"
            )
    elif then != now:
        line = say_line(then.threshold, then.max_duration, budget)
        yield f"as proposed, {line} trips in {then.false_trips}{_finding(then)}"
    if then.found is not None and not finds:
        yield (
            f"no line near it keeps the rate and finds harm of {HARM:g} times its threshold within"
            f" {say_duration(then.found.within)} at this traffic; more traffic for the release is what helps"
        )
    if found.fast is not None:
        line = say_line(found.fast.threshold, found.fast.max_duration, budget)
        yield (
            f"a fast line beside it ({line}) for big harm, which the slow one takes long to find: it trips in"
            f" {found.fast.false_trips}{_finding(found.fast)}"
        )
    elif now.is_slow and is_slow_metric(spec, budget):
        yield "no fast line is proposed beside it: this metric has no looks that are fast"
    if budget.method is Method.THRESHOLD:
        auto = plan_of(spec, budget.model_copy(update={"method": Method.AUTO}))
        if auto.is_tested:
            yield f"`method: threshold` carries no error-rate guarantee; `auto` would be {auto.method}"


def _finding(line: Tried) -> str:
    if line.found is None:
        return ""
    harm = f"harm of {HARM:g} times its threshold"
    if line.found.usually is not None:
        return f", and finds {harm} in {say_duration(line.found.usually)} (median)"
    share = f"{100 * line.found.in_time.rate:.0f} %"
    return f", and finds {harm} within {say_duration(line.found.within)} in {share} of windows"


def _size(budget: Budget, metric: Metric, spread: float) -> str:
    if budget.comparison is Comparison.DELTA_PCT:
        return f"{spread:.3g} %"
    if budget.comparison is Comparison.DELTA_PP:
        return f"{spread:.3g} pp"
    return say_value(spread, metric) if budget.comparison is not Comparison.INCREASE else f"{spread:.3g}"


def _kept(keeps: bool) -> str:
    return "within" if keeps else "which is not within"
