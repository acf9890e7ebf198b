"""Which direction of a metric is the better one: as its description says, or as its name is known for."""

from __future__ import annotations

import re
from enum import StrEnum

from rollback_budget.model.metric import Metric


class Better(StrEnum):
    """The direction in which a metric gets better."""

    HIGHER = "higher"
    LOWER = "lower"


#: Words of names that say it, as the field uses them; what is not among them says nothing.
_HIGHER = frozenset(
    (
        "accuracy",
        "csat",
        "deflection",
        "faithfulness",
        "goodput",
        "groundedness",
        "helpfulness",
        "nps",
        "precision",
        "recall",
        "relevance",
        "resolution",
        "satisfaction",
        "success",
        "throughput",
    )
)
_LOWER = frozenset(
    (
        "cost",
        "costs",
        "duration",
        "error",
        "errors",
        "escalation",
        "escalations",
        "failure",
        "failures",
        "fallback",
        "hallucination",
        "hallucinations",
        "handoff",
        "handoffs",
        "incident",
        "incidents",
        "itl",
        "jailbreak",
        "jailbreaks",
        "latency",
        "preemptions",
        "refusal",
        "refusals",
        "retries",
        "retry",
        "timeouts",
        "toxicity",
        "tpot",
        "ttft",
        "violations",
    )
)
_UPPER_QUANTILE = re.compile(r"p[5-9]\d\d?")


def better_of(name: str, metric: Metric) -> Better | None:
    """Return the better direction of metric ``name``, None where nothing says it."""
    if metric.better is not None:
        return Better(metric.better)
    words = name.lower().split("_")
    found = {Better.HIGHER for word in words if word in _HIGHER}
    found |= {Better.LOWER for word in words if word in _LOWER}
    if any(_UPPER_QUANTILE.fullmatch(word) for word in words):
        # Upper quantiles are those of latencies, unless another word says otherwise.
        found.add(Better.LOWER)
    return found.pop() if len(found) == 1 else None
