"""Charts: one drawing, as SVG or PNG by the file's suffix. Needs the extra ``charts``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from importlib.util import find_spec
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rollback_budget.exceptions import RollbackBudgetError

if TYPE_CHECKING:
    from rollback_budget.backtest.score import Score
    from rollback_budget.backtest.sweep import Candidate
    from rollback_budget.engine.trace import BudgetTrace, Trace

FORMATS = (".svg", ".png")

#: What is right, three that are wrong in a way of their own, and what nobody knows.
_OUTCOMES = ("#1f4e79", "#c2410c", "#f2a65a", "#b45ca8", "#9ca3af")
_INK, _LIMIT, _ONSET = "#1f4e79", "#c2410c", "#6b7280"
_WIDTH, _HEIGHT = 520, 110
#: Vega reads names with dots or brackets as paths; these are the only columns there are.
_TIME = "time:T"


def can_draw() -> bool:
    """Whether the extra ``charts`` is installed."""
    return all(find_spec(name) is not None for name in ("altair", "vl_convert"))


def check_format(path: Path) -> None:
    """Refuse a file that cannot become a chart before any work is done.

    :raises RollbackBudgetError: another suffix, or the extra is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise RollbackBudgetError(f"{path}: a chart is written as {' or '.join(FORMATS)}; change the suffix")
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError:
        raise RollbackBudgetError(
            f"{path}: charts need altair and vl-convert; install rollback-budget[charts]"
        ) from None


def draw_trace(trace: Trace, path: Path) -> None:
    """Write delta, burn and evidence over time, a row a budget, with breaches and the onset marked."""
    import altair as alt

    rows = [_row(trace, budget_trace) for budget_trace in trace.budgets]
    title = alt.TitleParams(trace.title, subtitle="times in UTC")
    _save(alt.vconcat(*rows, spacing=24).resolve_scale(color="independent").properties(title=title), path)


def draw_trade_off(candidates: Sequence[tuple[Candidate, Score]], path: Path) -> None:
    """Write the curve from quick and jumpy to slow and calm: a panel a budget, a point a candidate."""
    import altair as alt

    points = [
        {
            "budget": candidate.budget,
            "threshold": f"{candidate.threshold:+g}",
            "minutes": candidate.max_duration.total_seconds() / 60,
            "false": score.false_trips / max(score.false_trips_of, 1),
            "found": score.found / max(score.bad, 1),
            "rule": "as it is" if candidate.is_current else "candidate",
        }
        for candidate, score in candidates
    ]
    panels = []
    for budget in dict.fromkeys(point["budget"] for point in points):
        data: Any = alt.Data(values=[point for point in points if point["budget"] == budget])
        base: Any = alt.Chart(data).encode(
            x=alt.X(
                "false:Q",
                title="false trips, of those that can be one",
                axis=alt.Axis(format="%"),
                scale=_whole(),
            ),
            y=alt.Y("found:Q", title="found, of the bad", axis=alt.Axis(format="%"), scale=_whole()),
            color=alt.Color("threshold:N", title="threshold", sort=None),
        )
        dots = base.mark_point(filled=True, opacity=0.85).encode(
            size=alt.Size("minutes:O", title="minutes", scale=alt.Scale(range=[40, 240])),
            shape=alt.Shape(
                "rule:N",
                title=None,
                scale=alt.Scale(domain=["candidate", "as it is"], range=["circle", "diamond"]),
            ),
        )
        lines = base.mark_line(opacity=0.4).encode(order="minutes:Q", size=alt.value(1.5))
        panels.append((lines + dots).properties(width=300, height=220, title=budget))
    _save(alt.concat(*panels, columns=2).resolve_scale(color="independent", size="independent"), path)


class BurnDay(Protocol):
    """A day of a burn-down, as the chart reads it."""

    @property
    def day(self) -> date: ...
    @property
    def opened(self) -> int: ...
    @property
    def paid(self) -> int: ...
    @property
    def overdue(self) -> Mapping[str, int]: ...
    @property
    def share(self) -> float | None: ...


def draw_burn_down(days: Sequence[BurnDay], trailing_days: int, path: Path) -> None:
    """Write eval debt over time: opened and paid, overdue by owner, the share of breaches with a case.

    :param days: at least one.
    """
    import altair as alt

    counts = [
        {"time": day.day.isoformat(), "count": count, "what": what}
        for day in days
        for what, count in (("opened", day.opened), ("paid", day.paid))
    ]
    both = [{"time": day.day.isoformat(), "opened": day.opened, "paid": day.paid} for day in days]
    lines: Any = (
        alt.Chart(alt.Data(values=counts))
        .mark_line(interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=_days(days),
            y=alt.Y("count:Q", title="debts, ever", axis=alt.Axis(format="d", tickMinStep=1)),
            color=alt.Color(
                "what:N", title=None, scale=alt.Scale(domain=["opened", "paid"], range=[_LIMIT, _INK])
            ),
        )
    )
    owed: Any = (
        alt.Chart(alt.Data(values=both))
        .mark_area(interpolate="step-after", opacity=0.15, color=_LIMIT)
        .encode(x=_days(days), y="opened:Q", y2="paid:Q")
    )
    overdue: Any = (
        alt.Chart(alt.Data(values=list(_stacked(days))))
        .mark_rect()
        .encode(
            x=_days(days),
            x2="until:T",
            y=alt.Y("above:Q", title="debts", axis=alt.Axis(format="d", tickMinStep=1)),
            y2="below:Q",
            color=alt.Color("owner:N", title=None),
        )
    )
    shares = [{"time": day.day.isoformat(), "share": day.share} for day in days]
    share: Any = (
        alt.Chart(alt.Data(values=shares))
        .mark_line(color=_INK, interpolate="step-after", strokeWidth=1.6)
        .encode(
            x=_days(days), y=alt.Y("share:Q", title="had a case", axis=alt.Axis(format="%"), scale=_whole())
        )
    )
    goal: Any = alt.Chart(alt.Data(values=[{"goal": 1}])).mark_rule(color=_ONSET, strokeDash=[4, 3])
    panels = [
        alt.layer(owed, lines).properties(title="eval debt: opened and paid; what lies between is owed"),
        overdue.properties(title="overdue, by owner"),
        alt.layer(share, goal.encode(y="goal:Q")).properties(
            title=f"breaches of the last {trailing_days} days that had an eval case before"
        ),
    ]
    sized = [panel.properties(width=_WIDTH, height=_HEIGHT) for panel in panels]
    _save(alt.vconcat(*sized, spacing=16).resolve_scale(color="independent"), path)


def draw_track_record(
    endings: Mapping[str, int],
    outcomes: Mapping[str, Mapping[str, int]],
    unknown: Mapping[str, float | None],
    path: Path,
) -> None:
    """Write how rollouts ended, what each budget stopped, rightly or not, and how much of it was not seen.

    :param endings: rollouts by how they ended, in the order to be shown.
    :param outcomes: by budget, rollouts by outcome: a good one first, then what is wrong, then what is open.
    :param unknown: by budget, the share of its looks that were unknown; None where there are none.
    """
    import altair as alt

    counts = alt.Axis(format="d", tickMinStep=1)
    ended = [{"how": how, "count": count} for how, count in endings.items()]
    how: Any = (
        alt.Chart(alt.Data(values=ended))
        .mark_bar(color=_INK)
        .encode(
            y=alt.Y("how:N", title=None, sort=None),
            x=alt.X("count:Q", title="rollouts", axis=counts),
        )
    )
    kinds = list(dict.fromkeys(kind for by_kind in outcomes.values() for kind in by_kind))
    stopped = [
        {"budget": budget, "outcome": kind, "count": count, "place": kinds.index(kind)}
        for budget, by_kind in outcomes.items()
        for kind, count in by_kind.items()
    ]
    colors = alt.Scale(domain=kinds, range=_OUTCOMES[: len(kinds)])
    what: Any = (
        alt.Chart(alt.Data(values=stopped))
        .mark_bar()
        .encode(
            y=alt.Y("budget:N", title=None, sort=None),
            x=alt.X("count:Q", title="rollouts", axis=counts),
            color=alt.Color("outcome:N", title=None, scale=colors),
            order="place:Q",
        )
    )
    shares = [
        {"budget": budget if share is not None else f"{budget} (not known)", "share": share or 0.0}
        for budget, share in unknown.items()
    ]
    blind: Any = (
        alt.Chart(alt.Data(values=shares))
        .mark_bar(color=_ONSET)
        .encode(
            y=alt.Y("budget:N", title=None, sort=None),
            x=alt.X("share:Q", title="of its looks", axis=alt.Axis(format="%"), scale=_whole()),
        )
    )
    panels = [
        how.properties(title="how rollouts ended"),
        what.properties(title="what each budget stopped, by what people said afterwards"),
        blind.properties(title="looks that were unknown"),
    ]
    sized = [panel.properties(width=_WIDTH) for panel in panels]
    _save(alt.vconcat(*sized, spacing=16).resolve_scale(color="independent"), path)


def _stacked(days: Sequence[BurnDay]) -> Iterator[dict[str, Any]]:
    """Yield a rectangle per day and owner; Vega does not stack what has a begin and an end."""
    for day in days:
        below = 0
        for owner, count in day.overdue.items():
            until = day.day + timedelta(days=1)
            yield {
                "time": day.day.isoformat(),
                "until": until.isoformat(),
                "owner": owner,
                "below": below,
                "above": below + count,
            }
            below += count


def _days(days: Sequence[BurnDay]) -> Any:
    """All panels show the same days, whether or not something happened on them."""
    import altair as alt

    ends = [days[0].day.isoformat(), (days[-1].day + timedelta(days=1)).isoformat()]
    return alt.X(_TIME, title=None, scale=alt.Scale(type="utc", domain=ends), axis=alt.Axis(format="%d %b"))


def _row(trace: Trace, budget_trace: BudgetTrace) -> Any:
    import altair as alt

    budget = budget_trace.budget
    minutes = budget.max_duration.total_seconds() / 60
    deltas = [(point.time, point.delta) for point in budget_trace.points]
    burns = [(point.time, point.burn.total_seconds() / 60) for point in budget_trace.points]
    panels = [
        _panel(trace, budget_trace, f"delta ({_unit(budget_trace)})", deltas, budget.threshold),
        _panel(trace, budget_trace, "burn (min)", burns, minutes),
    ]
    if any(point.p_value is not None for point in budget_trace.points):
        # Powers of ten against chance: 2 means that chance does this once in a hundred rollouts at most.
        evidence = [
            (point.time, None if point.p_value is None else -log10(max(point.p_value, 1e-300)))
            for point in budget_trace.points
        ]
        panels.append(_panel(trace, budget_trace, "evidence (−log10 p)", evidence, -log10(trace.alpha)))
    return alt.vconcat(*panels, spacing=4).properties(title=f"{budget.area}: {budget.key}")


def _panel(
    trace: Trace,
    budget_trace: BudgetTrace,
    name: str,
    values: Iterable[tuple[Any, float | None]],
    limit: float,
) -> Any:
    import altair as alt

    shown = [{"time": time.isoformat(), "value": value} for time, value in values]
    line: Any = (
        alt.Chart(alt.Data(values=shown))
        .mark_line(color=_INK, strokeWidth=1.2, interpolate="step-after")
        .encode(
            x=alt.X(_TIME, title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format="%H:%M")),
            y=alt.Y("value:Q", title=name),
        )
    )
    layers = [
        line,
        alt.Chart(alt.Data(values=[{"value": limit}])).mark_rule(color=_LIMIT).encode(y="value:Q"),
    ]
    for time, color, dash in ((trace.onset, _ONSET, [4, 3]), (budget_trace.breached_at, _LIMIT, [1, 0])):
        if time is not None:
            mark: Any = alt.Chart(alt.Data(values=[{"time": time.isoformat()}]))
            layers.append(mark.mark_rule(color=color, strokeDash=dash, strokeWidth=1.5).encode(x=_TIME))
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _unit(budget_trace: BudgetTrace) -> str:
    return {"delta_pct": "%", "delta_pp": "pp", "increase": "events"}.get(
        budget_trace.budget.comparison.value, "value"
    )


def _whole() -> Any:
    import altair as alt

    return alt.Scale(domain=[0, 1])


def _save(chart: Any, path: Path) -> None:
    try:
        chart.configure(background="white").save(str(path))
    except OSError as error:
        raise RollbackBudgetError(f"{path}: cannot be written ({error.strerror}); check the path") from error
