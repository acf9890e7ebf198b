"""Samples: one metric of one version in one time bucket."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Sample(NamedTuple):
    """What a source delivers; a tuple, because a day of a rollout is ten thousand of them.

    :param time: aware; the sample covers ``(time - step, time]``.
    :param series: ``metric`` or ``metric:slice``.
    :param version: release or baseline, by its name.
    :param value: NaN or infinite means unknown.
    :param n: number of events behind the value (for counts: the exposure), None when not known.
    :param le: upper bound, for cumulative histogram buckets.
    :param fault: why the value is NaN although something came; None for every other sample.
    :param judge: what scored the value (model and version of the prompt), where known.
    """

    time: datetime
    series: str
    version: str
    value: float
    n: float | None = None
    le: float | None = None
    fault: str | None = None
    judge: str | None = None
