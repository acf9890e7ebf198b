"""How a metric is asked for, where its source takes more than a text."""

from __future__ import annotations

from typing import Literal

from rollback_budget.model.base import Frozen


class PrometheusQuery(Frozen):
    """Which series make up a metric. Selectors name them, ``name{label="value"}``, without the version.

    :param events: counter of what the metric counts; with ``total`` a proportion, or a count by exposure.
    :param failures: counter of what the metric does not count: it is the proportion of the others.
    :param sum: counter of a quantity, of which the metric is the mean by ``total``.
    :param total: counter of all requests.
    :param histogram: a histogram by its plain name, without ``_bucket``.
    :param gauge: a gauge.
    :param value: PromQL with one value by version; it must say ``$matchers``.
    :param n: PromQL with the number of events behind ``value``.
    :param native: whether ``histogram`` is a native one.
    :param bounds: where a native histogram is cut; without them by eighths of a power of 2.
    :param across: what the value of a gauge is that several instances have.
    :param absent: what it means that ``events`` or ``failures`` are not there while ``total`` is.
    """

    events: str | None = None
    failures: str | None = None
    sum: str | None = None
    total: str | None = None
    histogram: str | None = None
    gauge: str | None = None
    value: str | None = None
    n: str | None = None
    native: bool = False
    bounds: tuple[float, ...] = ()
    across: Literal["avg", "sum", "min", "max"] = "avg"
    absent: Literal["unknown", "zero"] = "unknown"
