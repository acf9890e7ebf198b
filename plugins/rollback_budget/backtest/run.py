"""Running a backtest over a folder, in as many processes as asked for."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from rollback_budget.backtest.folder import Recording
from rollback_budget.backtest.sweep import try_candidates
from rollback_budget.backtest.trial import Trial, Trigger, read_record, try_rule
from rollback_budget.exceptions import RollbackBudgetError, SeriesError
from rollback_budget.model.spec import RolloutSpec

#: So few files are done before further processes have started.
FEW = 8


@dataclass(frozen=True, slots=True)
class Tried:
    """What one recorded rollout gave.

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
) -> list[Tried]:
    """Try the rule on every recording; the result is in their order, whatever ``jobs`` is.

    :param jobs: processes; few recordings are done in this one.
    :param on_done: called after each recording.
    :raises SeriesError: some cannot be read: one line each, beginning with the file.
    """
    one = partial(_try_one, spec, sweep=sweep)
    if jobs <= 1 or len(recordings) <= FEW:
        tried = _collect(map(one, recordings), on_done)
    else:
        # A fresh process, not a fork: the caller may run threads (a progress bar does).
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(jobs, len(recordings)),
            mp_context=context,
            # A recording is many small values and no cycles; looking for cycles would only cost time.
            initializer=gc.disable,
        ) as pool:
            tried = _collect(pool.map(one, recordings, chunksize=4), on_done)
    problems = [problem for problem in tried if isinstance(problem, str)]
    if problems:
        raise SeriesError("\n".join(problems))
    return [result for result in tried if isinstance(result, Tried)]


def _collect(results: Iterable[Tried | str], on_done: Callable[[], object]) -> list[Tried | str]:
    tried = []
    for result in results:
        tried.append(result)
        on_done()
    return tried


def _try_one(spec: RolloutSpec, recording: Recording, *, sweep: bool) -> Tried | str:
    """Return the result, or the message of an error: all files with one are reported together."""
    try:
        record = read_record(spec, recording)
        return Tried(try_rule(record), tuple(try_candidates(record)) if sweep else ())
    except RollbackBudgetError as error:
        message = str(error)
        return message if message.startswith(str(recording.path)) else f"{recording.path}: {message}"
