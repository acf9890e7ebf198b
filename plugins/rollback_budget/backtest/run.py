"""Runs a backtest over recorded rollouts, in several processes."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from rollback_budget.backtest.recording import Recording
from rollback_budget.backtest.sweep import try_candidates
from rollback_budget.backtest.trial import Trial, Trigger, read_record, try_rule
from rollback_budget.exceptions import RollbackBudgetError, SeriesError
from rollback_budget.model.spec import RolloutSpec

#: With so few recordings, starting processes takes longer than running them all in this one.
MIN_FOR_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The result of one recorded rollout.

    :param swept: the first breach of every candidate of the sweep; empty without one.
    """

    trial: Trial
    swept: tuple[Trigger | None, ...] = ()


def run_backtest(
    spec: RolloutSpec,
    recordings: Sequence[Recording],
    *,
    sweep: bool = False,
    jobs: int = 1,
    on_done: Callable[[], object] = lambda: None,
) -> list[BacktestResult]:
    """Try the rule on every recording; the result is in their order, whatever ``jobs`` is.

    :param jobs: processes; few recordings are done in this one.
    :param on_done: called after each recording.
    :raises SeriesError: some cannot be read: one line each, beginning with the place.
    """
    one = partial(_try_one, spec, sweep=sweep)
    if jobs <= 1 or len(recordings) <= MIN_FOR_PROCESSES:
        results = _collect(map(one, recordings), on_done)
    else:
        # A fresh process, not a fork: the caller may run threads (a progress bar does).
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(jobs, len(recordings)),
            mp_context=context,
            # A recording is many small values and no cycles; looking for cycles would only cost time.
            initializer=gc.disable,
        ) as pool:
            results = _collect(pool.map(one, recordings, chunksize=4), on_done)
    problems = [problem for problem in results if isinstance(problem, str)]
    if problems:
        raise SeriesError("\n".join(problems))
    return [result for result in results if isinstance(result, BacktestResult)]


def _collect(
    results: Iterable[BacktestResult | str], on_done: Callable[[], object]
) -> list[BacktestResult | str]:
    collected = []
    for result in results:
        collected.append(result)
        on_done()
    return collected


def _try_one(spec: RolloutSpec, recording: Recording, *, sweep: bool) -> BacktestResult | str:
    """Return the result, or the message of an error: all recordings with one are reported together."""
    try:
        record = read_record(spec, recording)
        return BacktestResult(try_rule(record), tuple(try_candidates(record)) if sweep else ())
    except RollbackBudgetError as error:
        message = str(error)
        return message if message.startswith(recording.place) else f"{recording.place}: {message}"
