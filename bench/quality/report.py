"""The page and the chart about decision quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from bench.quality import cells as c
from bench.quality.cells import OURS, RATES, VARIANTS, Cell, Found
from bench.quality.peers import RULES
from bench.quality.traffic import Scenario

Results = Mapping[Cell, Mapping[str, Found]]

#: What the issue asks for: at most this share, or at least this share within this median, by traffic.
AT_MOST = {c.NO_HARM: (0.01, 0.01, 0.01), c.BLIP: (0.01, 0.01, 0.005), c.HALF: (0.03, 0.03, 0.02)}
AT_LEAST = {
    c.TEN: ((1.0, 90), (1.0, 35), (1.0, 25)),
    c.FOUR: ((0.98, 430), (1.0, 105), (1.0, 35)),
    c.LATE_TEN: ((0.99, 115), (1.0, 40), (1.0, 30)),
}


def page(results: Results, rollouts: int, seconds: float) -> str:
    """Return the page as Markdown."""
    heads = [f"{rate}/min" for rate in RATES]
    parts = [
        INTRODUCTION.format(rollouts=f"{rollouts:,}".replace(",", " "), seconds=round(seconds, -1)),
        "## What it must reach\n",
        _table(["", *heads, "asked for", "reached"], _target_rows(results)),
        "\n## Side by side\n\n" + SIDE_BY_SIDE,
    ]
    for scenario in c.COMMON:
        parts += [f"\n### {_title(scenario)}\n", _methods(results, "common", scenario, (OURS, *RULES))]
    parts += ["\n## Traffic that moves\n\n" + UNEVEN]
    for scenario in c.UNEVEN:
        parts += [f"\n### {_title(scenario)}\n", _methods(results, "uneven", scenario, (OURS, *RULES))]
    parts += ["\n## Correlated requests\n\n" + CLUSTERED]
    for scenario in c.CLUSTERED:
        names = list(results[Cell("clustered", scenario, RATES[0])])
        parts += [f"\n### {_title(scenario)}\n", _methods(results, "clustered", scenario, names)]
    parts += ["\n## The fast tier\n\n" + FAST_TIER]
    for scenario in c.SEVERE:
        parts += [
            f"\n### {_title(scenario)}\n",
            _methods(results, "severe", scenario, (OURS, "with a fast tier")),
        ]
    parts += ["\n## p95 by exceedance counts\n\n" + LATENCY]
    rows = [
        [scenario.name, *(_cell(results[Cell("latency", scenario, rate)][OURS], scenario) for rate in RATES)]
        for scenario in c.LATENCY
    ]
    parts += [_table(["", *heads], rows), "\n## What was tried\n\n" + TRIED, _tried(results)]
    return "\n".join(parts) + "\n"


def targets_missed(results: Results) -> list[str]:
    """Return the rows of the issue's table that are not reached, in words."""
    return [row[0] for row in _target_rows(results) if row[-1] != "yes"]


def chart(results: Results, path: Path) -> None:
    """Write the chart: what each rule does to a harmless release, and to one that is 4 pp worse."""
    import altair as alt

    harmless, harmful = "rolls back a harmless release in 24 h", "finds −4 pp within 2 h"
    rows = [
        {"rule": name.replace("`", ""), "traffic": f"{rate} requests/min/arm", "what": what, "share": share}
        for rate in RATES
        for name in (OURS, *RULES)
        for what, share in (
            (harmless, results[Cell("common", c.NO_HARM, rate)][name].share),
            (harmful, results[Cell("common", c.FOUR, rate)][name].in_two_hours),
        )
    ]
    order = [name.replace("`", "") for name in (OURS, *RULES)]
    drawn: Any = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("share:Q", axis=alt.Axis(format="%", title=None), scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("rule:N", sort=order, title=None, axis=alt.Axis(labelLimit=260)),
            yOffset=alt.YOffset("what:N", sort=[harmless, harmful]),
            color=alt.Color(
                "what:N",
                sort=[harmless, harmful],
                scale=alt.Scale(domain=[harmless, harmful], range=["#c2410c", "#0f766e"]),
                legend=alt.Legend(orient="top", title=None, labelLimit=300),
            ),
            column=alt.Column("traffic:N", sort=[f"{rate} requests/min/arm" for rate in RATES], title=None),
        )
        .properties(width=200, height=alt.Step(13))
        .configure(background="white")
    )
    drawn.save(str(path))


def _target_rows(results: Results) -> list[list[str]]:
    rows = []
    for scenario, limits in AT_MOST.items():
        found = [results[Cell("common", scenario, rate)][OURS] for rate in RATES]
        kept = all(one.share <= limit for one, limit in zip(found, limits, strict=True))
        asked = "/".join(f"{100 * limit:g}" for limit in limits)
        rows.append(
            [f"rollback, {scenario.name}", *map(_share, found), f"≤ {asked} %", "yes" if kept else "NO"]
        )
    for scenario, wanted in AT_LEAST.items():
        found = [results[Cell("common", scenario, rate)][OURS] for rate in RATES]
        kept = all(
            one.share / (1 - one.early) >= share and one.median <= minutes
            for one, (share, minutes) in zip(found, wanted, strict=True)
        )
        asked = "/".join(f"{100 * share:g}" for share, _ in wanted)
        within = "/".join(f"{minutes}" for _, minutes in wanted)
        rows.append(
            [
                f"{scenario.name} found",
                *(_cell(one, scenario) for one in found),
                f"≥ {asked} %; ≤ {within} min",
                "yes" if kept else "NO",
            ]
        )
    return rows


def _tried(results: Results) -> str:
    rows = []
    for name in VARIANTS:
        row = [name]
        for scenario in (c.NO_HARM, c.BLIP, c.HALF, c.FOUR, c.TEN, c.LATE_TEN):
            found = [results[Cell("common", scenario, rate)][f"tried: {name}"] for rate in RATES]
            row.append(
                "/".join(_minutes(one.median) for one in found)
                if scenario in AT_LEAST
                else "/".join(f"{100 * one.share:.1f}" for one in found)
            )
        rows.append(row)
    heads = ["", "no harm, %", "blip, %", "−1 pp, %", "−4 pp, min", "−10 pp, min", "−10 pp from 12 h, min"]
    return _table(heads, rows)


def _methods(results: Results, table: str, scenario: Scenario, names: Sequence[str]) -> str:
    rows = [
        [name, *(_cell(results[Cell(table, scenario, rate)][name], scenario) for rate in RATES)]
        for name in names
    ]
    return _table(["rule", *(f"{rate}/min" for rate in RATES)], rows)


def _title(scenario: Scenario) -> str:
    return scenario.name[0].upper() + scenario.name[1:]


def _cell(found: Found, scenario: Scenario) -> str:
    """Say the share; for harm beyond the budget, also the median, and what was rolled back too early."""
    harmful = scenario.lasting is None and scenario not in (c.HALF, c.LATENCY[2]) and scenario.harm > 0
    said = _share(found)
    if harmful:
        said += f"; {_minutes(found.median)} min" if isfinite(found.median) else "; –"
    return said + (f" ({100 * found.early:.1f} % before)" if found.early else "")


def _share(found: Found) -> str:
    return f"{100 * found.share:.1f} ± {100 * found.error:.2f} %"


def _minutes(median: float) -> str:
    return f"{median:.0f}" if isfinite(median) else "–"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    return "\n".join(f"| {line} |" for line in [*lines, *(" | ".join(row) for row in rows)])


INTRODUCTION = """\
# How good the decisions are

This page is written by `make bench-quality` (fixed seeds; {rollouts} simulated rollouts a cell,
{seconds:.0f} s on two cores). Its simulation shares no code with the engine; a test holds the two
against each other on random paths.

**The rollout.** 24 h in one-minute buckets; requests arrive at random (Poisson) at 5, 30 or 200 a
minute and arm; 10 % of them fail, and that drifts by ±2 pp over the day for both arms alike. **The
budget:** −2 pp for 20 minutes, `alpha: 0.05`, `null_margin: 0.5`. A cell says in how many rollouts a
rule rolled back (± one standard error) and, where there is harm, the median of the minutes from its
beginning, counting rollouts in which nothing was found as never. `(… before)` is what was rolled back
before the harm began.

![What each rule does to a harmless release and to one that is 4 pp worse](decision-quality.svg)
"""
SIDE_BY_SIDE = """\
All rules see the same rollouts. `sequential`, `sign` and `threshold` are this project's methods;
`threshold` is what an alerting rule with `for: 20m` does on each minute's value. The other rules are
what people run today: the value over the trailing 20 minutes, looked at every minute; a canary analysis
that fails at its third failed measurement of 5 minutes; a canary judge that compares the last 60
one-minute values every 10 minutes (Mann–Whitney at 98 %, and a mean beyond the budget); a one-sided 5 %
z-test on everything since the start, looked at every minute.
"""
UNEVEN = """\
The ramp gives the release 5 % of the traffic, from hour 3 on 10 %, from 6 on 25 %, from 9 on 50 %,
while traffic swings by half over the day and the busy hours are the bad ones. The split gives it 5 %
throughout. The number of requests a minute of both arms together is twice the one in the heading.
"""
CLUSTERED = """\
Each arm's level wanders on its own (a first-order autoregression that is forgotten over about five
minutes), so that a difference varies three times as much as independent requests would make it. That
breaks the premise of the test. `design_effect` divides the evidence; here it is given, or estimated on
a day without a change by comparing the variance of the arms' difference over batches of 20 minutes with
what independent requests would have.
"""
FAST_TIER = """\
A second line, −20 pp for 3 min, beside the main one; each gets half of α.
"""
LATENCY = """\
The budget is +15 % on p95 for 20 minutes; latencies are log-normal, their median drifts by ±10 % over
the day. Before each block, the bound is the baseline's p95 over its past plus the null margin, rounded
up to a bucket bound.
"""
TRIED = """\
Medians and shares at 5/30/200 requests a minute and arm, on the same rollouts as above.

*Joined* means one test instead of two at half of α each: reject when `A/2 + B/(2T) ≥ 1/α`, which keeps the
guarantee (`A/2 + (B + T − i)/(2T)` is a nonnegative martingale that starts at 1) and is never later. A grid
of alternatives pays for each of them with the logarithm of their number; fewer are faster where one of them
fits, and come nearer to the limit at half the budget. Higher caps are what lets a blip through.
"""
