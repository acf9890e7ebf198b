"""What the rollouts of one process share: sources, and the retry policy of their backends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import OpenSource, Source
from rollback_budget.sources.histogram_bounds import ratio_for
from rollback_budget.sources.resilience.circuit_breaker import CircuitBreaker
from rollback_budget.sources.resilience.coalescing import CoalescedSource, ConcurrencyLimit
from rollback_budget.sources.resilience.retry import TIME_OUT, RetryPolicy

SPARE = timedelta(seconds=5)
_METRICS = TypeAdapter(dict[str, Metric])


async def shared_source_of(spec: RolloutSpec, open_source: OpenSource) -> Source:
    """Return this rollout's reader of the source that it shares with all others of the same queries.

    What a source answers depends on the spec's source and metrics, its step, and how fine its budgets want
    latencies to be distinguished. Rollouts on one connection share the
    circuit breaker and the concurrency limit of its backend, whatever they query.

    :raises SourceError: the spec names no source.
    """
    if spec.source is None:
        return await open_source(spec)
    shared = _on_loops.setdefault(asyncio.get_running_loop(), _Shared())
    return shared.source(spec, open_source).reader()


@dataclass
class _Backend:
    circuit: CircuitBreaker
    limit: ConcurrencyLimit = field(default_factory=ConcurrencyLimit)


@dataclass
class _Shared:
    """Everything that is shared on one event loop."""

    backends: dict[str, _Backend] = field(default_factory=dict)
    sources: dict[str, CoalescedSource] = field(default_factory=dict)

    def source(self, spec: RolloutSpec, open_source: OpenSource) -> CoalescedSource:
        """Return the source of all rollouts whose queries are those of ``spec``."""
        source, poll = spec.source, spec.watch.poll
        assert source is not None
        shape = f"{poll} {spec.watch.step} {ratio_for(spec)}"
        name = str(getattr(source, "conn_id", None) or getattr(source, "path", source.type))
        backend = self.backends.setdefault(name, _Backend(CircuitBreaker(f"metric source {name!r}")))
        backend.circuit.serve(spec.watch.blind_after)
        key = f"{source.model_dump_json()} {_METRICS.dump_json(spec.metrics).decode()} {shape}"
        shared = self.sources.get(key)
        if shared is None:
            # The source's own time-out comes first: it says better what took so long.
            time_out: timedelta = (getattr(source, "timeout", None) or TIME_OUT) + SPARE
            shared = self.sources[key] = CoalescedSource(
                partial(open_source, spec),
                RetryPolicy(backend.circuit, time_out=time_out, poll=poll),
                backend.limit,
                key,
            )
        return shared


_on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()
