"""The forecast of a watch as a table of text, for a task log and a terminal."""

from __future__ import annotations

from datetime import datetime

from rollback_budget.engine.messages import say_value
from rollback_budget.engine.preflight_forecast import (
    HARMS,
    ArmForecast,
    BudgetForecast,
    Forecast,
    PreflightForecast,
)
from rollback_budget.model.duration import say_duration
from rollback_budget.model.metric import Metric
from rollback_budget.text import plural

_GAP = "  "


def forecast_lines(forecast: PreflightForecast) -> list[str]:
    """Return the lines of the table, and of what time values are that are older; no warnings."""
    start = _start_of_all(forecast)
    period = say_duration(forecast.end - start)
    rows = [
        (
            "budget",
            _cut(forecast.baseline),
            _cut(forecast.release),
            "events/min",
            "method",
            *(f"{harm:g}x found in" for harm in HARMS),
        ),
        *map(_row, forecast.budgets),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    heading = f"the last {period} to {forecast.end:%Y-%m-%d %H:%M} UTC, and what this watch can expect:"
    return [
        heading,
        lines[0],
        _GAP.join("-" * width for width in widths),
        *lines[1:],
        *_own_spans(forecast, start),
    ]


def _start_of_all(forecast: PreflightForecast) -> datetime:
    """Return from where on the heading speaks: earlier than the forecast where all values are older."""
    return min(
        forecast.start, max((one.start for one in forecast.budgets if one.looks), default=forecast.start)
    )


def _own_spans(forecast: PreflightForecast, start: datetime) -> list[str]:
    """Say of each budget whose values are of another time than from ``start`` on, of which."""
    return [
        f"{_cut(budget.budget, 60)}: values from {budget.start:%Y-%m-%d %H:%M} UTC on,"
        f" {plural(budget.looks, 'look')}"
        if budget.looks
        else f"{_cut(budget.budget, 60)}: no look of it is decided yet"
        for budget in forecast.budgets
        if budget.start < start or not budget.looks
    ]


def warning_lines(forecast: PreflightForecast) -> list[str]:
    """Return one line for each warning."""
    return [f"{budget.budget}: {warning}" for budget in forecast.budgets for warning in budget.warnings]


def error_lines(forecast: PreflightForecast) -> list[str]:
    """Return one line for each reason why a budget cannot be watched as it is."""
    return [f"{budget.budget}: {error}" for budget in forecast.budgets for error in budget.errors]


def _row(budget: BudgetForecast) -> tuple[str, ...]:
    metric = Metric(kind=budget.kind, unit=budget.unit)
    return (
        _cut(budget.budget, 60),
        *(
            say_value(arm.value, metric) if arm.known else "nothing yet"
            for arm in (budget.baseline, budget.release)
        ),
        _traffic(budget.baseline, budget.release),
        budget.method.value,
        *map(_found_in, budget.forecasts),
    )


def _value(arm: ArmForecast, metric: Metric) -> str:
    return say_value(arm.value, metric) if arm.known else "nothing yet"


def _traffic(baseline: ArmForecast, release: ArmForecast) -> str:
    """Return the events a minute, of each version that has any."""
    rates = [f"{arm.per_minute:.3g}" for arm in (baseline, release) if arm.per_minute is not None]
    return " / ".join(rates) if rates else "not known"


def _found_in(forecast: Forecast) -> str:
    if forecast.words:
        return forecast.words
    return "not forecast" if forecast.after is None else f"about {say_duration(forecast.after)}"


def _cut(text: str, length: int = 30) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
