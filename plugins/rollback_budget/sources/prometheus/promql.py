"""PromQL: one query for all metrics and versions of a poll, whose every value is data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import NamedTuple

from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.promql_selector import Matcher, Selector, parse_selector
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource

#: The label that distinguishes the parts of one query.
PART = "rollback_budget"
#: Counters whose last sample is no older than this are read by the cheap query, ...
LOOK_BACK, LOOK_BACK_SCRAPES = timedelta(minutes=10), 4
#: ... and one without samples for no longer than this goes on from its last value.
LONGEST_GAP = timedelta(days=1)
#: The label of series that were not there before the step, in the cheap query.
BORN = "rollback_budget_born"
#: A restart of a counter that stood no higher than this cannot be told from a step back.
FEW_EVENTS = 2
#: Over this time, and so many scrapes at least, it is looked whether a counter falls again and again.
FALLS_OVER, FALLS_OVER_SCRAPES = timedelta(minutes=15), 60
#: So many falls may be restarts, and one of so many scrapes; more are several counters behind one name.
MOST_FALLS, SCRAPES_A_FALL = 3, 5
#: A counter that stepped back and comes back within so many steps did not fall.
RECOVERS_WITHIN = 3

_MILLISECOND = timedelta(milliseconds=1)
#: Names that stand in people's PromQL for what differs from query to query.
PLACEHOLDER = re.compile(r"\$(matchers|window|step|slice|scrape_interval)\b")
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LEGACY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Counters(Enum):
    """What a query takes for granted of the counters that it reads; the less, the dearer it is."""

    GO_ON = "they were there a moment ago, and did not fall in the last quarter of an hour"
    ARE_NEW = "they did not fall in the last day"
    FELL = "nothing"


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
    :param scale: what makes the increase of a native histogram over its range into that of one step.
    """

    requests: tuple[PromqlRequest, ...]
    queried: tuple[QueriedSeries, ...]
    scale: float

    def fell(self) -> frozenset[str]:
        """Return the parts that say which versions have counters that fell."""
        each = (role_and_part for one in self.queried for role_and_part in one.parts.items())
        return frozenset(part for role, part in each if role.startswith("fell"))


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
    *,
    counters: Counters = Counters.FELL,
) -> PromqlQuery:
    """Return the queries for ``series`` of all ``versions`` at ``step``; what metrics share is queried once.

    :param counters: what is taken for granted of them; the query says besides where that is not true.
    :raises SourceError: a metric without a query, or a slice without a label for it.
    """
    terms = _Terms(source, tuple(versions), step, counters)
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


def counted_selectors(
    source: PrometheusSource, metrics: Mapping[str, Metric], series: Iterable[str], versions: Iterable[str]
) -> dict[str, str]:
    """Return the selector of the counter behind each of ``series`` that has one, by its name."""
    terms = _Terms(source, tuple(versions), timedelta(minutes=1))
    found = {}
    for name in series:
        metric, _, slice_ = name.partition(":")
        selected = terms.counted(_query(metric, metrics.get(metric, Metric())), slice_ or None)
        if selected is not None:
            found[name] = selected
    return found


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

    A counter is read as the difference of its last sample in the step and its last sample before the step,
    however old that is: between two looks, and in a gap, no event is lost, and none is counted twice.
    ``increase()`` loses what lies in a gap and the first value of a series, and is no whole number. Native
    histograms, which have no such difference, are read over a step and one scrape more, then scaled to the
    step. Ranges leave their first millisecond out, so that a sample on the edge is in one of them in every
    version of Prometheus.
    """

    def __init__(
        self,
        source: PrometheusSource,
        versions: tuple[str, ...],
        step: timedelta,
        counters: Counters = Counters.FELL,
    ) -> None:
        self._source = source
        self._counters = counters
        self._by = source.version_label
        scrape = source.scrape_interval
        range_ = max(step + scrape, 2 * scrape) - _MILLISECOND
        self.scale = step / range_
        self._range = _duration(range_)
        #: A value is there when it was scraped in this time.
        self._present = _duration(max(step, scrape) - _MILLISECOND)
        self._inside = _duration(step - _MILLISECOND)
        self._step = _duration(step)
        self._falls_over = max(FALLS_OVER, FALLS_OVER_SCRAPES * scrape)
        look_back = max(LOOK_BACK if counters is Counters.GO_ON else LONGEST_GAP, LOOK_BACK_SCRAPES * scrape)
        self._look_back = _duration(look_back)
        #: All that what is read of a counter that fell depends on.
        self._since = _duration(max(look_back, RECOVERS_WITHIN * step, self._falls_over) + step)
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
        if query.total is None:
            return self._counter("part", _selected(counted, common))
        total, births = _selected(query.total, common), query.absent == "zero"
        parts = {
            **self._counter("part", _selected(counted, common), births=births, total=total),
            **self._counter("total", total, births=births),
        }
        if births:
            parts["before"] = f"count by ({self._by}) ({self._before(total)})"
        return parts

    def counted(self, query: PrometheusQuery, slice_: str | None) -> str | None:
        """Return the selector of a counter that every request counts in; None for what is no counter."""
        common = (*self._common, *self._of_slice(slice_))
        if query.histogram is not None:
            selector = parse_selector(query.histogram)
            return _written(selector if query.native else selector.named("_count"), common)
        text = query.total or query.events
        return None if text is None else _selected(text, common)

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
            count = _written(selector.named("_count"), common)
            return {
                **self._counter("part", _written(selector.named("_sum"), common), total=count),
                **self._counter("total", count),
            }
        buckets = selector.named("_bucket")
        every = _written(buckets, (Matcher("le", "=", quote("+Inf")), *common))
        parts = self._counter("buckets", _written(buckets, common), "le", total=every)
        return parts | ({"falls": self._falls(every)} if self._counters is Counters.FELL else {})

    def _counter(
        self, role: str, selected: str, *by: str, births: bool = False, total: str | None = None
    ) -> dict[str, str]:
        """Return the expressions of one counter: its events, and whether it fell.

        :param total: of the counter in which each request counts; None for itself.
        """
        if self._counters is not Counters.FELL:
            by_version = f"sum by ({', '.join((self._by, *by, BORN))})"
            return {
                role: f"{by_version} ({self._difference(selected, births=births)})",
                f"fell_{role}": f"count by ({self._by}) (resets({selected}[{self._since}]) > 0)",
            }
        by_version = f"sum by ({', '.join((self._by, *by))})"
        parts = {role: f"{by_version} ({self._events(selected, births=births, total=total)})"}
        return parts | ({"falls": self._falls(selected)} if total is None else {})

    def _gauge(self, selected: str, across: str) -> str:
        over = across if across in ("min", "max") else "avg"
        return f"{across} by ({self._by}) ({over}_over_time({selected}[{self._present}]))"

    def _increase(self, selected: str) -> str:
        """Return the increase of a native histogram over a range."""
        return f"sum by ({self._by}) (increase({selected}[{self._range}]))"

    def _before(self, selected: str) -> str:
        """Return the last value before the step."""
        return f"last_over_time({selected}[{self._look_back}] offset {self._step})"

    def _difference(self, selected: str, *, births: bool) -> str:
        """Return what :meth:`_events` does of counters that did not fall.

        Where replicas are deduplicated, ``resets()`` may know nothing of a step back, as in Thanos: the
        highest value counts, not the last one.
        """
        now = f"last_over_time({selected}[{self._present}])"
        before = f"max_over_time({selected}[{self._look_back}] offset {self._step})"
        born = now if births else f"0 * {now}"
        if self._counters is Counters.GO_ON:
            born = f'label_replace({born}, "{BORN}", "1", "", "")'
        return f"clamp_min({now} - {before}, 0) or ignoring ({BORN}) {born}"

    def _events(self, selected: str, *, births: bool, total: str | None) -> str:
        """Return what a counter counted since its last sample before the step; what fell is negative.

        A counter that fell to at most half of its value restarted: what it has now is counted, and by how
        much it had risen in the step before. A smaller fall is no restart, but a sample of another time, as
        deduplicated replicas give it; the difference is negative, and made up for by the next. Of a counter
        of one or two events every fall is large: it restarted where a total did.

        :param births: whether a series that was not there before the step began at zero inside it.
        :param total: of the counter in which each request counts, None where there is no other.
        """
        now = f"last_over_time({selected}[{self._present}])"
        before, high = self._before(selected), f"max_over_time({selected}[{self._inside}])"
        fell_inside, restarted = self._fell_inside(selected), self._restarted(selected)
        if total is not None:
            with_total = f"and on ({self._by}) ({self._restarted(total)})"
            fell_inside = f"({fell_inside}) and ({high} > {FEW_EVENTS}) or ({fell_inside}) {with_total}"
            restarted = (
                f"({restarted}) and ({before} > {FEW_EVENTS} or {high} > {FEW_EVENTS})"
                f" or ({restarted}) {with_total}"
            )
        born = f"({now} + (({high} > {now}) and ({fell_inside}))) or {now}"
        first = born if births else f"({now} and {before}) or 0 * {now}"
        return (
            f"(({now} - {before}) unless ({restarted}))"
            f" or ({now} + clamp_min(({high} > {now}) - {before}, 0)) or {first}"
        )

    def _fell_inside(self, selected: str) -> str:
        """Return the counters that fell to at most half inside the step."""
        low, high = (f"{name}_over_time({selected}[{self._inside}])" for name in ("min", "max"))
        return f"({low} <= 0.5 * {high}) and resets({selected}[{self._inside}]) > 0"

    def _restarted(self, selected: str) -> str:
        """Return the counters that restarted inside the step."""
        low = f"min_over_time({selected}[{self._inside}])"
        return f"({low} <= 0.5 * ({self._before(selected)} > 0)) or ({self._fell_inside(selected)})"

    def _falls(self, selected: str) -> str:
        """Return in how many series a counter falls so often that it cannot be one counter."""
        over = f"{selected}[{_duration(self._falls_over)}]"
        often = f"(resets({over}) > {MOST_FALLS}) * {SCRAPES_A_FALL} > count_over_time({over})"
        return f"count by ({self._by}) ({often})"

    def _filled(self, text: str, common: tuple[Matcher, ...], slice_: str | None) -> str:
        values = {
            "matchers": ",".join(map(str, common)),
            "window": self._range,
            "step": self._step,
            "slice": quote(slice_ or ""),
            "scrape_interval": _duration(self._source.scrape_interval),
        }
        # A line of its own for the bracket: the text may end in a comment.
        return f"({PLACEHOLDER.sub(lambda found: values[found[1]], text.strip())}\n)"


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
