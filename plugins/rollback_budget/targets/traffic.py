"""What the data plane shows of a change of traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

#: How much traffic the release may still get after a rollback: requests in flight, a straggling replica.
REST_OF_TRAFFIC = 0.01


@dataclass(frozen=True)
class Recovery:
    """Whether the breached metric is good again.

    :param good: None while it is not known.
    :param knowable: False when waiting for it is in vain.
    """

    good: bool | None
    said: str
    knowable: bool = True


@dataclass(frozen=True)
class Traffic:
    """What the data plane shows since a moment.

    :param share: the drained version's share of requests; None while it is not known.
    :param knowable: False when no source counts requests, so that waiting for it is in vain.
    :param recovery: of what was breached; None when nothing was.
    """

    share: float | None
    said: str
    knowable: bool = True
    recovery: Recovery | None = None

    @property
    def is_drained(self) -> bool:
        """Whether the drained version gets no more than a rest, or that cannot be known."""
        return not self.knowable or (self.share is not None and self.share <= REST_OF_TRAFFIC)


#: Returns the share of traffic that the version to be drained still gets, counted since the given time.
ObserveTraffic = Callable[[datetime], Traffic]
