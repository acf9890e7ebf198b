"""Remarks about PromQL that people wrote: what would hide missing data, and what cannot be parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.prometheus.promql import PLACEHOLDER

if TYPE_CHECKING:
    from promql_parser import Expr

#: Of the placeholders, those that do not stand for a duration.
_FILLED_IN = {"matchers": 'version="v"', "slice": '"s"'}


def promql_remarks(spec: RolloutSpec) -> Iterator[str]:
    """Yield a sentence for each doubt about the PromQL of the metrics that budgets are on."""
    written = {
        f"metrics.{name}.query{key}": text
        for name in dict.fromkeys(budget.metric for budget in spec.budgets)
        for key, text in _texts(spec, name)
    }
    if not written:
        return
    try:
        import promql_parser
    except ImportError:
        yield (
            f"{', '.join(f'`{place}`' for place in written)} is PromQL of your own, which is not checked: "
            "install rollback-budget[lint]"
        )
        return
    for place, text in written.items():
        filled = PLACEHOLDER.sub(lambda found: _FILLED_IN.get(found[1], "1m"), text)
        try:
            parsed = promql_parser.parse(filled)
        except ValueError as error:
            yield f"`{place}` is no PromQL that can be parsed here ({error}); preflight asks the server"
            continue
        if _is_filled_with_a_constant(parsed):
            yield (
                f"`{place}` has `or vector(...)` or another constant behind `or`: missing data looks like a "
                "value, a version that nobody scrapes like a healthy one. Remove it; a counter that is not "
                "there before its first event is what `query: {events: ..., total: ..., absent: zero}` is for"
            )


def _texts(spec: RolloutSpec, metric: str) -> Iterator[tuple[str, str]]:
    query = spec.metric(metric).query
    if isinstance(query, str):
        yield "", query
    elif query is not None:
        for key in ("value", "n"):
            text = getattr(query, key, None)
            if text is not None:
                yield f".{key}", text


def _is_filled_with_a_constant(parsed: Expr) -> bool:
    """Whether a part of it gives a constant where there is no data."""
    from promql_parser import BinaryExpr, walk

    found = False

    def visit(node: Expr) -> None:
        nonlocal found
        if isinstance(node, BinaryExpr) and str(node.op) == "or":
            found = found or _is_constant(node.rhs)

    walk(parsed, visit)
    return found


def _is_constant(expression: Expr) -> bool:
    """Whether an expression has one value, whatever the series in it say: ``vector(0)``, ``0 * up``."""
    from promql_parser import AggregateExpr, BinaryExpr, Call, NumberLiteral, ParenExpr, UnaryExpr

    if isinstance(expression, ParenExpr | UnaryExpr | AggregateExpr):
        return _is_constant(expression.expr)
    if isinstance(expression, Call):
        name = expression.func.name
        return name == "vector" or (name.startswith("label_") and _is_constant(expression.args[0]))
    if isinstance(expression, BinaryExpr):
        sides = expression.lhs, expression.rhs
        zero = any(isinstance(one, NumberLiteral) and one.val == 0.0 for one in sides)
        return (str(expression.op) == "*" and zero) or all(map(_is_constant, sides))
    return isinstance(expression, NumberLiteral)
