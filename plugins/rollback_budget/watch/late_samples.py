"""Late samples of one watch: read again, reported, and never folded into what is decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import inf
from zlib import crc32

from rollback_budget.clock import EPOCH, Log, Now
from rollback_budget.engine.evaluation import Evaluation, Late
from rollback_budget.engine.late_data import LateData, LateLook
from rollback_budget.engine.sample import Sample
from rollback_budget.model.source import lateness_of, reread_interval_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.text import plural

#: Late samples are logged at most once per interval.
LOG_INTERVAL = timedelta(minutes=10)


class LateSamples:
    """Counts and logs the samples that came too late for their looks.

    :param began: where the watch begins to read; nothing before it is read again.
    :param rollout: what the watches of one backend take different turns by, where not every poll reads again.
    :param step: how long a look is; None for ``watch.step``.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        began: datetime,
        log: Log,
        now: Now,
        rollout: str = "",
        step: timedelta | None = None,
    ) -> None:
        step = spec.watch.step if step is None else step
        self._every = reread_interval_of(spec.source)
        # Every look is read again once it is so old, whatever the turn.
        self._reach = -(-(lateness_of(spec.source) + self._every) // step) * step
        self._phase = crc32(rollout.encode()) / 2**32 * self._every
        self._read_again = self._turn(began)
        self._began = began
        self._late_data = LateData(self._reach)
        self._log = log
        self._now = now
        self._logged_at: datetime | None = None
        self._unlogged = 0
        self._late: Late | None = None
        self._read_until: datetime | None = None

    def _turn(self, read_until: datetime) -> int:
        """Return the number of the interval in which is read again once."""
        return (read_until - EPOCH + self._phase) // self._every if self._every else 0

    def reread_from(self, read_until: datetime) -> datetime:
        """Return where a reading that goes on from ``read_until`` has to start."""
        if self._every and self._turn(read_until) == self._read_again:
            return read_until
        return max(read_until - self._reach, self._began)

    def notice(self, samples: Iterable[Sample], until: datetime) -> Sequence[LateLook]:
        """Compare a reading with the ones before; looks up to ``until`` are decided after it.

        :return: the looks that are no longer what they were.
        """
        if self._read_until is not None:
            self._read_again = self._turn(self._read_until)
        self._read_until = until
        if self._every:
            # Of a histogram the bucket for all: what is kept of so many watches must be little.
            samples = [sample for sample in samples if sample.le is None or sample.le == inf]
        late = self._late_data.notice(samples, until)
        if late:
            newest = max(sample.time for sample in late)
            before = self._late or Late(samples=0, newest=newest)
            self._late = Late(samples=before.samples + len(late), newest=max(before.newest, newest))
            self._unlogged += len(late)
        if self._unlogged and (self._logged_at is None or self._now() - self._logged_at >= LOG_INTERVAL):
            assert self._late is not None
            self._log.warning(
                "%s came late or changed once their looks were decided, the newest for %s: decisions "
                "stay, and replay on the final data may differ; a longer watch.settle, or `lag` of a metric, "
                "waits for them",
                plural(self._unlogged, "sample"),
                self._late.newest,
            )
            self._logged_at, self._unlogged = self._now(), 0
        return self._late_data.looks

    def add_to(self, evaluation: Evaluation | None) -> Evaluation | None:
        """Return ``evaluation`` with what came late."""
        if evaluation is None or self._late is None:
            return evaluation
        late, before = self._late, evaluation.late
        if before is not None:
            late = Late(samples=late.samples + before.samples, newest=max(late.newest, before.newest))
        return evaluation.model_copy(update={"late": late})
