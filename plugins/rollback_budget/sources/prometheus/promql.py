"""PromQL: one query for all metrics and versions of a poll, whose every value is data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.promql_selector import Matcher, Selector, parse_selector
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource

#: The label that distinguishes the parts of one query.
PART = "rollback_budget"

_MILLISECOND = timedelta(milliseconds=1)
_PLACEHOLDER = re.compile(r"\$(matchers|window|step|slice|scrape_interval)\b")
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LEGACY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class QueriedSeries:
    """One series of a request and the parts of the query that it is put together from, by role.

    :param name: of the series, ``metric`` or ``metric:slice``.
    """

    name: str
    kind: MetricKind
    query: PrometheusQuery
    parts: Mapping[str, str]


class PromqlRequest(NamedTuple):
    """One query.

    :param bare: the part whose series carry no :data:`PART`, if there is one.
    """

    text: str
    bare: str | None = None


@dataclass(frozen=True, slots=True)
class PromqlQuery:
    """What is sent to Prometheus.

    :param requests: one, but for budgets on several native histograms.
    :param scale: what makes the increase over the range into that of one step.
    """

    requests: tuple[PromqlRequest, ...]
    queried: tuple[QueriedSeries, ...]
    scale: float


def quote(text: str) -> str:
    """Return ``text`` as a PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(_escape(char) for char in escaped)
    return f'"{escaped}"'


def one_of(values: Iterable[str]) -> str:
    """Return the PromQL string of a regular expression that matches these values and no other."""
    return quote("|".join(_META.sub(r"\\\g<0>", value) for value in dict.fromkeys(values)))


def build_query(
    source: PrometheusSource,
    metrics: Mapping[str, Metric],
    series: Iterable[str],
    versions: Iterable[str],
    step: timedelta,
) -> PromqlQuery:
    """Return the queries for ``series`` of all ``versions`` at ``step``; what metrics share is queried once.

    :raises SourceError: a metric without a query, or a slice without a label for it.
    """
    terms = _Terms(source, tuple(versions), step)
    tagged: dict[str, str] = {}
    natives: dict[str, str] = {}
    queried = []
    for name in series:
        metric, _, slice_ = name.partition(":")
        description = metrics.get(metric, Metric())
        query = _query(metric, description)
        parts = {}
        for role, text in terms.parts(description.kind, query, slice_ or None).items():
            known = natives if role == "native" else tagged
            parts[role] = known.setdefault(text, f"{'native' if role == 'native' else ''}{len(known)}")
        queried.append(QueriedSeries(name, description.kind, query, parts))
    return PromqlQuery(tuple(_requests(tagged, natives)), tuple(queried), terms.scale)


def _requests(tagged: Mapping[str, str], natives: Mapping[str, str]) -> Iterator[PromqlRequest]:
    """Yield one query for all parts, and one for each native histogram after the first.

    In Prometheus 2.42 ``label_replace`` makes a float 0 of a native histogram, so that one cannot be
    distinguished from another.
    """
    texts = [f'label_replace({text}, "{PART}", "{part}", "", "")' for text, part in tagged.items()]
    first = next(iter(natives), None)
    if first is not None:
        texts.append(first)
    if texts:
        yield PromqlRequest("\nor ".join(texts), None if first is None else natives[first])
    for text, part in natives.items():
        if text != first:
            yield PromqlRequest(text, part)


def _query(metric: str, description: Metric) -> PrometheusQuery:
    query = description.query
    if query is None:
        raise SourceError(
            f"metric {metric!r} has no query; add metrics.{metric}.query, or choose a preset", transient=False
        )
    return PrometheusQuery(value=query) if isinstance(query, str) else query


class _Terms:
    """Writes the parts of a query.

    Counters are read over a step and one scrape more, then scaled to the step. A range of just a step holds
    the samples inside it and not the change between the last sample before it and its first: of every
    ``step / scrape_interval`` changes one would be lost, and with it the one incident that counts. Ranges
    leave their first millisecond out, so that a sample on the edge is in one of them in every version of
    Prometheus.
    """

    def __init__(self, source: PrometheusSource, versions: tuple[str, ...], step: timedelta) -> None:
        self._source = source
        self._by = source.version_label
        scrape = source.scrape_interval
        range_ = max(step + scrape, 2 * scrape) - _MILLISECOND
        self.scale = step / range_
        self._range = _duration(range_)
        self._gauge_range = _duration(max(step, scrape) - _MILLISECOND)
        self._step = _duration(step)
        self._common = (
            *(Matcher(label, "=", quote(value)) for label, value in source.labels.items()),
            Matcher(source.version_label, "=~", one_of(versions)),
        )

    def parts(self, kind: MetricKind, query: PrometheusQuery, slice_: str | None) -> dict[str, str]:
        """Return the expressions of one series, by role."""
        common = (*self._common, *self._of_slice(slice_))
        if query.value is not None:
            texts = {"value": query.value} | ({} if query.n is None else {"n": query.n})
            return {role: self._filled(text, common, slice_) for role, text in texts.items()}
        if query.gauge is not None:
            return {"value": self._gauge(_selected(query.gauge, common), query.across)}
        if query.histogram is not None:
            return self._histogram(kind, query, common)
        counted = next(text for text in (query.events, query.failures, query.sum) if text is not None)
        exact = kind is MetricKind.COUNT
        parts = {"part": self._increase(_selected(counted, common), exact=exact)}
        if query.total is not None:
            parts["total"] = self._increase(_selected(query.total, common))
        return parts

    def _of_slice(self, slice_: str | None) -> tuple[Matcher, ...]:
        if slice_ is None:
            return ()
        if self._source.slice_label is None:
            raise SourceError(
                f"slice {slice_!r}: nothing says which label holds it; add `source.slice_label`",
                transient=False,
            )
        return (Matcher(self._source.slice_label, "=", quote(slice_)),)

    def _histogram(
        self, kind: MetricKind, query: PrometheusQuery, common: tuple[Matcher, ...]
    ) -> dict[str, str]:
        assert query.histogram is not None
        selector = parse_selector(query.histogram)
        if query.native:
            return {"native": self._increase(_written(selector, common))}
        if kind is MetricKind.MEAN:
            return {
                role: self._increase(_written(selector.named(suffix), common))
                for role, suffix in (("part", "_sum"), ("total", "_count"))
            }
        return {"buckets": self._increase(_written(selector.named("_bucket"), common), "le")}

    def _gauge(self, selected: str, across: str) -> str:
        over = across if across in ("min", "max") else "avg"
        return f"{across} by ({self._by}) ({over}_over_time({selected}[{self._gauge_range}]))"

    def _increase(self, selected: str, *by: str, exact: bool = False) -> str:
        """Return the increase over a range; ``exact``: over the step, in whole events.

        Exact is the difference of a counter that was there a step ago and was not reset since, and that has
        a sample now. Where it was not or was, the increase over the range, which knows resets.
        """
        increase = f"increase({selected}[{self._range}])"
        if exact:
            change = f"{selected} - {selected} offset {self._step}"
            unless_reset = f"resets({selected}[{self._range}]) > 0"
            increase = f"((({change}) unless ({unless_reset})) and {increase}) or {increase} * {self.scale!r}"
        return f"sum by ({', '.join((self._by, *by))}) ({increase})"

    def _filled(self, text: str, common: tuple[Matcher, ...], slice_: str | None) -> str:
        values = {
            "matchers": ",".join(map(str, common)),
            "window": self._range,
            "step": self._step,
            "slice": quote(slice_ or ""),
            "scrape_interval": _duration(self._source.scrape_interval),
        }
        # A line of its own for the bracket: the text may end in a comment.
        return f"({_PLACEHOLDER.sub(lambda found: values[found[1]], text.strip())}\n)"


def _selected(text: str, common: tuple[Matcher, ...]) -> str:
    return _written(parse_selector(text), common)


def _written(selector: Selector, common: tuple[Matcher, ...]) -> str:
    matchers = ",".join(map(str, (*selector.matchers, *common)))
    if _LEGACY_NAME.fullmatch(selector.name):
        return f"{selector.name}{{{matchers}}}"
    return f"{{{quote(selector.name)},{matchers}}}"


def _duration(length: timedelta) -> str:
    return f"{length // _MILLISECOND}ms"


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if char == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
