"""Tables that the ``sql`` source reads without a query: one row a request, or one row a bucket."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal

from pydantic import Field

from rollback_budget.model.base import Frozen

_QUANTILE = re.compile(r"p\d\d\d?")


def is_quantile(metric: str) -> bool:
    """Whether a metric is a quantile of the latency by its name: ``p50``, ``p95``, ``p999``."""
    return _QUANTILE.fullmatch(metric) is not None


class Flag(Frozen):
    """What makes a request count: a column that holds 0 or 1 (or a boolean), or one of some values.

    :param among: the values that count; empty for a column that is the flag itself.
    """

    column: str
    among: tuple[str, ...] = ()


class RequestLog(Frozen):
    """One row a request. Metrics whose column is not named are not there.

    :param time: when the request ended.
    :param time_type: how ``time`` is stored; a ``timestamp`` without a time zone is taken for UTC.
    :param slice: the column that a budget's ``slice`` is compared with.
    :param success: gives ``task_success``; NULL is a request that nobody has judged yet.
    :param latency: gives ``p50``, ``p95`` and every other quantile, from a histogram made by the database.
    :param latency_unit: what ``latency`` is stored in; metrics are in seconds.
    :param fastest: latencies up to here are not told apart, and those beyond ``slowest`` neither.
    :param handoff: gives ``human_handoff``.
    :param incident: gives ``high_severity_incidents``; NULL is a request without one.
    :param tokens: gives ``tokens_per_request``.
    :param cost: gives ``cost_per_request``.
    """

    table: str
    time: str
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] = "timestamp"
    version: str = "version"
    slice: str | None = None
    success: Flag | None = None
    latency: str | None = None
    latency_unit: Literal["s", "ms"] = "s"
    fastest: timedelta = timedelta(milliseconds=100)
    slowest: timedelta = timedelta(seconds=60)
    handoff: Flag | None = None
    incident: Flag | None = None
    tokens: str | None = None
    cost: str | None = None

    def gives(self, metric: str) -> bool:
        """Whether ``metric`` can be read from this table."""
        if is_quantile(metric):
            return self.latency is not None
        role = ROLES.get(metric)
        return role is not None and getattr(self, role) is not None


class Aggregate(Frozen):
    """One row a bucket, version and whatever else (rows of one bucket and version are added up).

    :param time: which end of the bucket it is, ``label`` says.
    :param requests: number of requests.
    :param success: number of successful ones; gives ``task_success``. The other columns hold sums, too.
    :param quantiles: columns with ready-made quantiles, in seconds; unknown where one bucket has two rows.
    """

    table: str
    time: str
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] = "timestamp"
    label: Literal["start", "end"] = "end"
    version: str = "version"
    slice: str | None = None
    requests: str
    success: str | None = None
    handoff: str | None = None
    incident: str | None = None
    tokens: str | None = None
    cost: str | None = None
    quantiles: dict[str, str] = Field(default_factory=dict)

    def gives(self, metric: str) -> bool:
        """Whether ``metric`` can be read from this table."""
        role = ROLES.get(metric)
        return metric in self.quantiles or (role is not None and getattr(self, role) is not None)


#: Which column of a table each metric comes from.
ROLES = {
    "task_success": "success",
    "human_handoff": "handoff",
    "high_severity_incidents": "incident",
    "tokens_per_request": "tokens",
    "cost_per_request": "cost",
}
