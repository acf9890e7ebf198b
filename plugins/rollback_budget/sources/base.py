"""What every metric source keeps to, and how one is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeGuard

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.source_settings import SourceSettings
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.registry import Group, RegistryError, load_class

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from rollback_budget.connections import ConnectionFields
    from rollback_budget.transport.async_client import AsyncHttpClient


class SeriesRequest(NamedTuple):
    """The question a source answers: these series, both versions, ``start < time <= end``.

    ``start`` and ``end`` lie on the UTC grid of ``step``.
    """

    series: tuple[str, ...]
    release: str
    baseline: str
    start: datetime
    end: datetime
    step: timedelta


class Source(Protocol):
    """Where samples come from, opened.

    A source is used from one event loop. Several rollouts may share it, and then several fetches run at the
    same time. It makes one attempt for each request: retries, the circuit breaker and the limit of requests
    in flight are put around every source by :mod:`rollback_budget.sources.resilience`.
    """

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``, in any order, in as few backend requests as possible.

        The sample at ``t`` covers ``(t - step, t]`` and carries an aware time in UTC. A value is in the unit
        of its metric; NaN, or a sample that is not there, is *unknown*. ``n`` is the number of events behind
        the value, None where it is not known. What lies outside of the request is ignored.

        It never blocks the event loop: what has no asynchronous client runs in :func:`asyncio.to_thread`.

        :raises SourceError: with ``transient=True`` for what a retry may fix (time-outs, 429, 5xx; with
            ``retry_after`` where the backend says it), with ``transient=False`` for what it does not
            (authentication, a query that is refused). The message never holds a secret.
        """
        ...


class SourceConnections(Protocol):
    """How a source reaches its backend, so that it needs no Airflow.

    Every method raises :class:`SourceError` when the connection does not exist or cannot be used.
    """

    async def http(self, conn_id: str) -> AsyncHttpClient:
        """Return the client of an ``http`` connection; paths are relative to its base URL."""
        ...

    async def engine(self, conn_id: str) -> Engine:
        """Return the SQLAlchemy engine of a common-sql connection, one per connection and process."""
        ...

    async def connection(self, conn_id: str) -> ConnectionFields:
        """Return the fields of any other connection."""
        ...


class MetricSource(ABC):
    """A type of metric source. A subclass is registered as an entry point of ``rollback_budget.sources``.

    The entry point's name is what a budget file writes as ``type`` of its ``source``. The module of the
    subclass must be light: it is imported wherever a budget file is read, also while DAGs are parsed. Import
    clients and drivers inside :meth:`open`.
    """

    settings: ClassVar[type[SourceSettings]]
    """The frozen type of the section ``source:``; its ``type`` is the entry point's name."""

    @classmethod
    @abstractmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Source:
        """Return the source that ``spec`` describes: an object of this or of any other class.

        ``spec.source`` is an object of :attr:`settings`. Called once for each process and each set of equal
        settings and metrics, and again after the backend refused an answer: secrets may have changed.

        :raises SourceError: the connection cannot be used, or the spec describes no source that can be read.
        """

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterable[str]:  # noqa: ARG003
        """Return why ``spec`` cannot be shipped with its source, without a request to the backend.

        One sentence each that names the key which is missing, and what to add.
        """
        return ()

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterable[str]:  # noqa: ARG003
        """Return what about the source of ``spec`` is allowed and probably not meant, one sentence each."""
        return ()


def source_class(name: str) -> type[MetricSource]:
    """Return the type of source that is registered as ``name``.

    :raises SourceError: there is none, or it cannot be imported.
    """
    try:
        return load_class(Group.SOURCES, name, MetricSource)
    except RegistryError as error:
        raise SourceError(str(error), transient=False) from error


class Watermarked(Protocol):
    """A source that knows up to where everything is in; a watch decides no look beyond."""

    async def settled_until(self) -> datetime | None:
        """Return the time up to which nothing more is to come, None when nothing is in at all."""
        ...


def is_watermarked(source: object) -> TypeGuard[Watermarked]:
    """Whether a source is one; ``isinstance`` with a protocol would take longer than the rest of a fetch."""
    return hasattr(source, "settled_until")


class Surveyed(Protocol):
    """A source that can say, before a release ships, what about its series is not as its settings say."""

    async def survey(self, request: SeriesRequest) -> Sequence[str]:
        """Return a sentence for each doubt about the series of ``request``; raises :class:`SourceError`."""
        ...


def is_surveyed(source: object) -> TypeGuard[Surveyed]:
    """Whether a source is one."""
    return hasattr(source, "survey")


OpenSource = Callable[[RolloutSpec], Awaitable[Source]]
